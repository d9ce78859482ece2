import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from fineclip.datasets.evaluation_batch import collate_evaluation
from fineclip.evaluation.runner import eval_mode, evaluate, join_results
from fineclip.images import UnusableImageError


class Numbers(Dataset):
    """Images 0 to 4; 1 and 2 cannot be decoded."""

    def __init__(self):
        self.metainfo = {"classes": ("a",)}

    def __len__(self):
        return 5

    def __getitem__(self, index):
        if index in (1, 2):
            return {"skipped": [(f"{index}.jpg", "broken")]}
        return {
            "image": torch.zeros(3, 2, 2, dtype=torch.uint8),
            "data_sample": {"image_id": index},
            "skipped": [],
        }


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.clip = nn.Linear(1, 1)
        self.clip.device = torch.device("cpu")
        self.frozen = nn.Dropout().eval()
        self.seen = []

    def val_step(self, batch):
        assert not self.training
        assert not torch.is_grad_enabled()
        assert "skipped" not in batch
        assert len(batch["images"]) == len(batch["data_samples"]) > 0
        self.seen.append(torch.is_autocast_enabled("cpu"))
        return batch["data_samples"]


class Collect(BaseMetric):
    default_prefix = ""
    prepared_with = None

    def prepare(self, clip):
        assert not self.dataset_meta or not clip.training
        self.prepared_with = clip

    def process(self, data_batch, data_samples):
        self.results += [sample["image_id"] for sample in data_samples]
        self.results += [file for file, _ in data_batch["skipped"]]

    def compute_metrics(self, results):
        return {"seen": results}


def loader(batch_size):
    return DataLoader(Numbers(), batch_size=batch_size, collate_fn=collate_evaluation)


def test_every_batch_reaches_the_metric_and_empty_ones_skip_the_model():
    model, metric = Model(), Collect()
    results = evaluate(model, loader(1), Evaluator([metric]), progress=False)
    assert results == {"seen": [0, "1.jpg", "2.jpg", 3, 4]}
    assert len(model.seen) == 3
    assert metric.prepared_with is model.clip
    assert metric.dataset_meta == {"classes": ("a",)}


def test_modes_are_restored_module_by_module():
    model = Model().train()
    model.frozen.eval()
    evaluate(model, loader(2), Evaluator([Collect()]), progress=False)
    assert model.training
    assert model.clip.training
    assert not model.frozen.training


def test_modes_are_restored_after_an_error():
    model = nn.Sequential(nn.Dropout())
    with pytest.raises(RuntimeError), eval_mode(model):
        assert not model[0].training
        raise RuntimeError
    assert model[0].training


def test_hooks_see_each_batch():
    calls = []
    evaluate(
        Model(),
        loader(2),
        Evaluator([Collect()]),
        progress=False,
        before_batch=lambda i, batch, outputs: calls.append(("before", i, outputs)),
        after_batch=lambda i, batch, outputs: calls.append(("after", i, len(outputs))),
    )
    assert calls[:4] == [("before", 0, None), ("after", 0, 1), ("before", 1, None), ("after", 1, 1)]
    assert len(calls) == 6


def test_an_evaluation_without_a_usable_image_is_an_error():
    broken = DataLoader(Subset(Numbers(), [1, 2]), 1, collate_fn=collate_evaluation)
    with pytest.raises(UnusableImageError, match=r"1\.jpg: broken .*all that there were.*2\.jpg"):
        evaluate(Model(), broken, Evaluator([Collect()]), progress=False)


def test_amp_reaches_the_forward_pass():
    model = Model()
    evaluate(model, loader(5), Evaluator([Collect()]), progress=False, amp="bf16")
    evaluate(model, loader(5), Evaluator([Collect()]), progress=False)
    assert model.seen == [True, False]
    with pytest.raises(ValueError, match="amp must be one of bf16, fp16 or None, got 'tf32'"):
        evaluate(model, loader(5), Evaluator([Collect()]), amp="tf32")


def test_join_prefixes_only_what_collides():
    joined = join_results({"a": {"x": 1.0, "n": 2.0}, "b": {"y": 3.0, "n": 4.0}})
    assert joined == {"x": 1.0, "a/n": 2.0, "y": 3.0, "b/n": 4.0}
