import json
import resource
import sys
import time
from pathlib import Path

import pytest
import torch

from fineclip.experiments import training
from fineclip.experiments.job import main
from fineclip.experiments.measuring import peak_memory_bytes
from fineclip.models import DenseCLIP
from fineclip.scenes import make_scenes

CONFIGS = Path(__file__).parents[3] / "configs" / "fineclip"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "scenes"
    make_scenes(folder, images=4, val_images=2, size=64)
    return folder


def write_job(folder, scenes, function="train", **options):
    options = {"method": "clip", "data_root": str(scenes), "batch_size": 2, **options}
    options = {"max_epochs": 2, "seed": 0, **options}
    job = {
        "function": f"fineclip.experiments.training:{function}",
        "arguments": {"config": str(CONFIGS / "scenes.py"), "options": options},
        "fingerprint": "abc",
    }
    (folder / "job.json").write_text(json.dumps(job))


def test_trains_tests_and_measures(scenes, tmp_path, monkeypatch):
    """Time and memory are those of training: the test, made slow and greedy here, adds nothing."""
    from mmengine.runner import Runner

    test, peaks = Runner.test, []
    monkeypatch.setattr(training, "peak_memory_bytes", lambda: peaks.append(1) or 123)

    def slow_test(runner):
        assert peaks == [1, 1]  # one an epoch
        time.sleep(1)
        return test(runner)

    monkeypatch.setattr(Runner, "test", slow_test)
    write_job(tmp_path, scenes)
    start = time.perf_counter()
    assert main([str(tmp_path)]) == 0
    seconds = time.perf_counter() - start
    assert len(peaks) == 2
    measured = json.loads((tmp_path / "result.json").read_text())
    assert {"box_top1", "box_top5", "i2t_r1", "t2i_r1"} <= measured["metrics"].keys()
    assert 0 < 2 * measured["seconds_per_epoch"] < seconds - 1
    assert measured["peak_memory_bytes"] == 123
    assert 1 < measured["seconds"] < seconds
    assert measured["fingerprint"] == "abc"

    # The weights can start another training, teacher included, and are all that is kept.
    file = tmp_path / measured["checkpoint"]
    assert file.name == "epoch_2.pth"
    assert [f.name for f in tmp_path.glob("*.pth")] == [file.name]
    checkpoint = torch.load(file, weights_only=True, map_location="cpu")
    assert "optimizer" not in checkpoint
    model = DenseCLIP.create("ViT-Ti-8-scenes", str(file))
    trained = checkpoint["state_dict"]["clip.clip.visual.proj"]
    torch.testing.assert_close(model.clip.visual.proj.detach(), trained)


def test_an_interrupted_training_ends_as_if_it_had_not_been(scenes, tmp_path, monkeypatch):
    # Bytes after each epoch; the second training is interrupted before its last epoch is saved.
    peaks = iter((1, 2, 70, KeyboardInterrupt, 50))

    def peak():
        value = next(peaks)
        if value is KeyboardInterrupt:
            raise value
        return value

    monkeypatch.setattr(training, "peak_memory_bytes", peak)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    for folder, codes in ((whole, [0]), (resumed, [130, 0])):
        folder.mkdir()
        write_job(folder, scenes)
        assert [main([str(folder)]) for _ in codes] == codes
    expected, found = (json.loads((f / "result.json").read_text()) for f in (whole, resumed))
    assert found["metrics"] == expected["metrics"]
    first, second = (
        torch.load(f / "epoch_2.pth", weights_only=True)["state_dict"] for f in (whole, resumed)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    # Memory of both sittings counts.
    assert (expected["peak_memory_bytes"], found["peak_memory_bytes"]) == (2, 70)
    assert found["seconds_per_epoch"] > 0
    # Interrupted after its last epoch, it is tested; nothing is trained, and costs are known.
    (resumed / "result.json").unlink()
    assert main([str(resumed)]) == 0
    again = json.loads((resumed / "result.json").read_text())
    assert {**again, "seconds": 0} == {**found, "seconds": 0}


def test_weights_are_evaluated_as_they_are(scenes, tmp_path):
    torch.manual_seed(0)
    weights = tmp_path / "clip.pt"
    torch.save(DenseCLIP.create("ViT-Ti-8-scenes").clip.state_dict(), weights)
    write_job(tmp_path, scenes, "evaluate", pretrained=str(weights))
    assert main([str(tmp_path)]) == 0
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["metrics"]["box_top5"] >= found["metrics"]["box_top1"] >= 0
    assert found["seconds_per_epoch"] is None
    assert not list(tmp_path.glob("*.pth"))


def test_what_cannot_run_is_one_line_and_exit_code_2(scenes, tmp_path, capsys):
    write_job(tmp_path, tmp_path / "nowhere")
    assert main([str(tmp_path)]) == 2
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("error: ")]
    assert "nowhere" in line
    write_job(tmp_path, scenes, pretrained="missing.pth")
    assert main([str(tmp_path)]) == 2
    assert "error: checkpoint missing.pth does not exist" in capsys.readouterr().out
    assert not (tmp_path / "result.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="counts the device's memory there")
def test_peak_memory_counts_what_was_freed():
    before = peak_memory_bytes()
    assert before > 1e8
    block = torch.ones(500_000_000, dtype=torch.uint8)
    del block
    # Whatever earlier tests took and gave back may be part of the first figure.
    with_block = peak_memory_bytes()
    assert with_block >= 0.99 * before  # the kernel counts in batches
    if sys.platform == "linux":
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        assert with_block > resident + 4e8
