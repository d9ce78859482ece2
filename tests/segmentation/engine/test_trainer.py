"""Training on detectron2's trainer: resuming, precision, evaluation in between, checkpoints."""

import json
import logging
import math
import os
import pickle
import random
import signal
import sys

import numpy as np
import pytest
import torch
from detectron2.engine import HookBase
from states import differences

from fineclip.checkpoints import CheckpointError
from fineclip.engine import ResumeError
from fineclip.images import UnusableImageError
from fineclip.interrupts import Interrupted
from segmentation.engine import SafeCheckpointer, SegmentationTrainer, build_train_loader
from segmentation.engine.loader import CountedBatches, ResumableSampler, SeededSamples


class StopAt(HookBase):
    """An interruption after one of the steps."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_step(self):
        if self.trainer.iter == self.iteration:
            raise KeyboardInterrupt


def train(cfg, *hooks, resume=True):
    torch.manual_seed(3)
    trainer = SegmentationTrainer(cfg, list(hooks))
    trainer.resume_or_load(resume)
    trainer.train()
    return trainer


def weights(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_interrupted_run_ends_like_a_straight_one(make_config, tmp_path, workers):
    options = ["DATALOADER.NUM_WORKERS", str(workers), "SEED", "-1", "INPUT.COLOR_AUG_SSD", "True"]
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - detectron2 draws the open seed from it
    first = make_config(*options, out="broken")
    with pytest.raises(KeyboardInterrupt):
        train(first, StopAt(2))
    kept = weights(tmp_path / "broken/model_0000001.pth")
    # Checkpoints hold plain values, and the seed that the configuration leaves open.
    assert kept["iteration"] == 1 and kept["trainer"]["seed"] >= 0
    assert (tmp_path / "broken/last_checkpoint").read_text() == "model_0000001.pth"
    resumed = train(make_config(*options, out="broken"))
    assert resumed.start_iter == 2
    straight_config = make_config(*options, out="straight")
    straight_config.SEED = kept["trainer"]["seed"]
    straight = train(straight_config)
    ended = weights(tmp_path / "broken/model_final.pth")
    wanted = weights(tmp_path / "straight/model_final.pth")
    assert ended["iteration"] == wanted["iteration"] == 3
    for key, value in wanted["model"].items():
        assert torch.equal(ended["model"][key], value), key
    for ours, theirs in zip(
        resumed.optimizer.param_groups, straight.optimizer.param_groups, strict=True
    ):
        assert ours["lr"] == theirs["lr"]


def test_settings_are_the_configuration_s(make_config, tmp_path, caplog):
    """Rate, decay and length of the schedule; other batches go on after the images that were."""
    with pytest.raises(KeyboardInterrupt):
        train(make_config(), StopAt(2))
    options = ["SOLVER.BASE_LR", "0.5", "SOLVER.MAX_ITER", "6", "SOLVER.WEIGHT_DECAY", "0.25"]
    options += ["SOLVER.IMS_PER_BATCH", "4"]
    seen = []

    class Rates(HookBase):
        def before_step(self):
            group = self.trainer.optimizer.param_groups[0]
            seen.append((self.trainer.iter, group["lr"], group["weight_decay"]))

    with caplog.at_level(logging.INFO, "segmentation"):
        train(make_config(*options), Rates())
    resumed = seen[:]
    train(make_config(*options, out="straight"), Rates())
    straight = seen[len(resumed) :]
    assert resumed == straight[2:] and len(straight) == 6
    assert weights(tmp_path / "out/model_final.pth")["trainer"]["images"] == 2 * 2 + 4 * 4
    (line,) = [text for text in caplog.messages if text.startswith("resuming")]
    assert "at step 2: weights, optimizer moments and progress are the checkpoint's" in line
    assert "SOLVER.BASE_LR 0.002 -> 0.5" in line and "SOLVER.MAX_ITER 4 -> 6" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["MODEL.SEM_SEG_HEAD.CLIP_FINETUNE", "full"], "CLIP_FINETUNE was 'frozen', is 'full'"),
        (["SEED", "7"], "SEED was 0, is 7"),
        (["SOLVER.OPTIMIZER", "SGD"], "OPTIMIZER was 'ADAMW', is 'SGD'"),
        (["SOLVER.MAX_ITER", "1"], r"has trained 2 steps, SOLVER\.MAX_ITER is 1"),
    ],
)
def test_another_run_is_refused_by_name(make_config, options, message):
    with pytest.raises(KeyboardInterrupt):
        train(make_config(), StopAt(1))
    with pytest.raises(ResumeError, match=message):
        SegmentationTrainer(make_config(*options)).resume_or_load()


def test_a_signal_ends_with_a_checkpoint_that_resumes(make_config, tmp_path):
    class Kill(HookBase):
        def before_step(self):
            if self.trainer.iter == 2:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="step 3; continue with --resume") as caught:
        train(make_config(), Kill())
    assert caught.value.code == 130
    assert (tmp_path / "out/last_checkpoint").read_text() == "interrupted.pth"
    train(make_config())
    train(make_config(out="straight"))
    ended = weights(tmp_path / "out/model_final.pth")
    assert differences(ended, weights(tmp_path / "straight/model_final.pth")) == []
    assert not (tmp_path / "out/interrupted.pth").exists()


@pytest.mark.parametrize("warmup", ["0", "1"])
def test_no_warm_up_and_one_step_of_it(make_config, warmup):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=2.0)
    cfg = make_config("SOLVER.WARMUP_ITERS", warmup)
    scheduler, rates = SegmentationTrainer.build_lr_scheduler(cfg, optimizer), []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    cosine = [1 + math.cos(math.pi * step / 4) for step in range(4)]
    assert rates[1:] == pytest.approx(cosine[1:])
    assert rates[0] == pytest.approx(cosine[0] * (0.05 if warmup == "1" else 1))


def test_the_schedule_and_clip_s_share(make_config):
    options = ["MODEL.SEM_SEG_HEAD.CLIP_FINETUNE", "full", "SOLVER.CLIP_MULTIPLIER", "0.25"]
    options += ["SOLVER.WARMUP_ITERS", "2", "SOLVER.WARMUP_FACTOR", "0.5", "SOLVER.BASE_LR", "0.01"]

    seen = []

    class Rates(HookBase):
        def before_step(self):
            seen.append({group["lr"] for group in self.trainer.optimizer.param_groups})

    train(make_config(*options), Rates())
    # Linear from half of the rate to the cosine at step 2 of 4, which is half of it as well.
    rates = [max(found) for found in seen]
    assert rates == pytest.approx([0.005, 0.005, 0.005, 0.01 * 0.5 * (1 - 0.5**0.5)])
    assert all(min(found) == pytest.approx(max(found) / 4) for found in seen)


def test_mixed_precision_on_a_cpu(make_config):
    trainer = train(make_config("SOLVER.AMP.ENABLED", "True"))
    assert not trainer._trainer.grad_scaler.is_enabled()
    seen = []
    hook = torch.nn.modules.module.register_module_forward_hook(
        lambda module, _, out: seen.append(out.dtype) if isinstance(out, torch.Tensor) else None
    )
    trainer._trainer.iter = 4
    from detectron2.utils.events import EventStorage

    with EventStorage(4):
        trainer._trainer.run_step()
    hook.remove()
    assert torch.bfloat16 in seen
    assert all(p.dtype == torch.float32 for p in trainer.model.parameters())


def test_evaluation_in_between_and_at_the_end(make_config, tmp_path):
    cfg = make_config("DATASETS.TEST", "('scenes_val_sem_seg',)", "TEST.EVAL_PERIOD", "2")
    trainer = train(cfg)
    found = json.loads((tmp_path / "out/results.json").read_text())["scenes_val_sem_seg"]
    assert {"mIoU", "mAcc", "fwIoU"} <= found.keys() and "IoU-red circle" in found
    assert found["mIoU"] == trainer.last_results["scenes_val_sem_seg"]["mIoU"]
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.json").read_text().splitlines()]
    at = [line["iteration"] for line in lines if "scenes_val_sem_seg/mIoU" in line]
    assert at == [1, 4] or at == [1, 3], lines
    assert not any("IoU-red" in key for line in lines for key in line)
    assert trainer.model.training


def test_no_compiled_operator_of_detectron2_is_touched(make_config, monkeypatch):
    class Refused:
        def __getattr__(self, name):
            raise AssertionError(f"detectron2._C.{name} was used")

    monkeypatch.setitem(sys.modules, "detectron2._C", Refused())
    train(make_config("DATASETS.TEST", "('scenes_val_sem_seg',)"))


def test_checkpoints_that_would_run_code_are_refused(make_config, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    model = torch.nn.Linear(2, 2)
    (tmp_path / "evil.pth").write_bytes(pickle.dumps({"model": Evil()}))
    torch.save({"model": Evil()}, tmp_path / "evil_zip.pth")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": {}}))
    for name in ("evil.pth", "evil_zip.pth", "model.pkl"):
        with pytest.raises(CheckpointError, match="refused"):
            SafeCheckpointer(model, str(tmp_path)).load(str(tmp_path / name))
    assert not (tmp_path / "ran").exists()


def test_checkpoints_that_do_not_fit_are_refused(make_config, tmp_path):
    trainer = SegmentationTrainer(make_config())
    file = tmp_path / "other.pth"
    state = trainer.model.state_dict()
    state.pop("upsample1.weight")
    torch.save({"model": state}, file)
    with pytest.raises(CheckpointError, match=r"1 missing key: upsample1\.weight"):
        trainer.checkpointer.load(str(file))


def test_a_failed_save_leaves_the_last_checkpoint(make_config, tmp_path, monkeypatch):
    checkpointer = SafeCheckpointer(torch.nn.Linear(2, 2), str(tmp_path))
    checkpointer.save("first")

    def fail(content, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        checkpointer.save("second")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["first.pth", "last_checkpoint"]
    assert checkpointer.get_checkpoint_file().endswith("first.pth")


def test_weights_to_start_from(make_config, tmp_path):
    first = train(make_config(out="a"))
    options = ["MODEL.WEIGHTS", str(tmp_path / "a/model_final.pth")]
    second = SegmentationTrainer(make_config(*options, out="b"))
    second.resume_or_load(resume=True)
    assert second.start_iter == 0
    for key, value in first.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[key], value), key
    # It is read as it was trained, and says so of itself, whatever is set.
    options += ["MODEL.SEM_SEG_HEAD.CLIP_RESIDUAL", "class_token"]
    third = SegmentationTrainer(make_config(*options, out="c"))
    third.resume_or_load(resume=True)
    assert third.residual == "own"
    assert third.state_dict()["settings"]["MODEL.SEM_SEG_HEAD.CLIP_RESIDUAL"] == "own"


def test_order_of_samples():
    def take(sampler, number):
        found = iter(sampler)
        return [next(found) for _ in range(number)]

    whole = take(ResumableSampler(5, seed=1), 15)
    indices = [index for index, _ in whole]
    assert all(sorted(indices[i : i + 5]) == list(range(5)) for i in (0, 5, 10))
    assert indices[:5] != indices[5:10]
    assert len({seed for _, seed in whole}) == 15
    later = ResumableSampler(5, seed=1)
    later.start = 7
    assert take(later, 8) == whole[7:]
    halves = [take(ResumableSampler(5, seed=1, rank=rank, world_size=2), 7) for rank in (0, 1)]
    assert [pair for both in zip(*halves, strict=True) for pair in both] == whole[:14]
    assert take(ResumableSampler(5, seed=2), 15) != whole
    with pytest.raises(ValueError, match="no images"):
        ResumableSampler(0, seed=1)


def test_augmentation_depends_on_the_seed_alone():
    samples = SeededSamples([{"x": 1}], lambda record: (random.random(), np.random.rand()))  # noqa: NPY002
    random.seed(5)
    before = random.getstate()
    first = samples[0, 11]
    assert random.getstate() == before
    np.random.rand()  # noqa: NPY002
    assert samples[0, 11] == first and samples[0, 12] != first


def mapped(record):
    if record["bad"]:
        raise UnusableImageError(record["file"], "no such file")
    return {"file": record["file"], "draw": random.random()}


def test_another_sample_takes_the_place_of_an_unreadable_one():
    records = [{"file": f"{i}.jpg", "bad": i < 2} for i in range(6)]
    samples = SeededSamples(records, mapped)
    assert "skipped" not in samples[3, 5]
    first = samples[0, 5]
    assert first["skipped"][0] == ("0.jpg", "no such file") and first["file"] > "1.jpg"
    assert samples[0, 5] == first and samples[3, 5]["draw"] == first["draw"]
    nothing = SeededSamples(records[:2], mapped)
    with pytest.raises(UnusableImageError, match=r"jpg: no such file \(nor can 99 others"):
        nothing[0, 5]


def test_unreadable_samples_are_named_once_and_counted(caplog):
    batch = [{"skipped": [("a.jpg", "no such file")]}, {}]
    with caplog.at_level(logging.WARNING, "segmentation"):
        assert len(list(CountedBatches([batch, batch, [{}, {}]], images=4))) == 3
    assert caplog.messages == ["skipped a.jpg: no such file", "2 images were skipped in this pass"]
    with pytest.raises(UnusableImageError, match=r"a\.jpg: .*10 images cannot be used, more than"):
        list(CountedBatches([batch] * 20, images=50))


def test_training_loader(make_config):
    loader, sampler = build_train_loader(make_config(), seed=0)
    batch = next(iter(loader))
    assert len(batch) == 2 and batch[0]["image"].shape == (3, 32, 32)
    assert sampler.size == 8
