import pytest
import torch.distributed as dist
import torch.multiprocessing as mp

from fineclip.evaluation import image_metric
from fineclip.evaluation.image_metric import ImageMetric


class Ids(ImageMetric):
    def process(self, data_batch, data_samples):
        self.note_skipped(data_batch)
        self.results += [dict(sample) for sample in data_samples]

    def compute(self, records, skipped):
        return {"ids": sorted(r["image_id"] for r in records), "skipped": sorted(skipped)}


def samples(*ids):
    return [{"image_id": id_} for id_ in ids]


def test_one_process():
    metric = Ids()
    metric.process({"skipped": [("x", "why")]}, samples(1, 2, 1))
    assert metric.evaluate(size=1) == {"ids": [1, 2], "skipped": ["x"]}
    assert metric.evaluate(size=1) == {"ids": [], "skipped": []}


def test_each_skipped_file_is_reported_once(monkeypatch):
    messages = []
    monkeypatch.setattr(image_metric, "print_log", lambda text, **_: messages.append(text))
    metric = Ids()
    for _ in range(2):
        metric.process({"skipped": [("bad.jpg", "cannot be decoded")]}, [])
        metric.evaluate(size=1)
    (message,) = messages
    assert message == "Ids: left out of the evaluation (1):\n  bad.jpg: cannot be decoded"


def _two_ranks(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    metric = Ids(collect_dir=f"{folder}/parts")
    # Image 0 pads rank 1 after two files that could not be read: cutting the joined list to
    # the size of the data set, as mmengine does, would lose image 4.
    metric.process({"skipped": [("1", "a"), ("3", "b")] if rank else []}, [])
    metric.process({"skipped": []}, samples(0, 2, 4) if rank == 0 else samples(0))
    results = metric.evaluate(size=2)
    assert results == {"ids": [0, 2, 4], "skipped": ["1", "3"]}, results
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch without torch.distributed")
def test_two_processes_agree_and_count_images_once(tmp_path):
    mp.spawn(_two_ranks, (str(tmp_path),), nprocs=2)
