"""A run that was interrupted within an epoch ends as the one that was not."""

import functools
import json
import os
import re
import signal

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from PIL import Image
from torch import nn

from fineclip.datasets import RegionTextDataset
from fineclip.datasets import image_reader as image_reader_module
from fineclip.datasets.shard_writer import make_shards
from fineclip.engine import ResumeError, build_runner
from fineclip.interrupts import Interrupted
from fineclip.registry import MODELS

IMAGES, BATCH, EPOCHS = 13, 3, 3  # four batches an epoch, one image left over
STEPS = IMAGES // BATCH


@MODELS.register_module()
class NoisyRegressor(BaseModel):
    """A linear layer on pixels behind dropout, which keeps the tokens that it was shown."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3 * 8 * 8, 4)
        self.seen = []

    def forward(self, images, texts, crops, **others):
        self.seen.append([*texts.flatten().tolist(), len(crops)])
        pixels = torch.cat([images, crops]).flatten(1) / 255
        pixels = nn.functional.dropout(pixels, 0.5, self.training)
        return {"loss": self.layer(pixels).square().mean() + pixels.mean() * 0}

    def train_step(self, data, optim_wrapper):
        with optim_wrapper.optim_context(self):
            losses = self(**data)
        optim_wrapper.update_params(losses["loss"])
        return losses


class StopAfter(Hook):
    """Breaks a run off as a lost machine would: after a step, before anything else is saved."""

    priority = "LOWEST"

    def __init__(self, step):
        self.step = step

    def after_train_iter(self, runner, **kwargs):
        if runner.iter + 1 == self.step:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Images by letter, three captions and four boxes each, as files and as shards."""
    folder = tmp_path_factory.mktemp("resume")
    rng = np.random.default_rng(0)
    images, boxes, captions = [], [], []
    for number in range(IMAGES):
        pixels = rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.jpg")
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 24, "height": 20})
        for i in range(4):
            box = {"id": 4 * number + i, "image_id": number, "category_id": 1}
            boxes.append({**box, "bbox": [i, i, 10, 12]})
            captions.append({"image_id": number, "caption": f"{4 * number + i}"})
    content = {"images": images, "annotations": boxes}
    content["categories"] = [{"id": 1, "name": "x"}]
    (folder / "instances.json").write_text(json.dumps(content))
    (folder / "captions.json").write_text(json.dumps({"annotations": captions}))
    files = {
        "image_root": str(folder),
        "annotations": str(folder / "instances.json"),
        "captions": str(folder / "captions.json"),
    }
    make_shards(folder / "shards", **files, samples_per_shard=3)
    shards = {"type": "Shards", "folder": str(folder / "shards")}
    return {"files": {"type": "AnnotationFiles", **files}, "shards": shards}


def train(
    source, work_dir, *, stop=None, resume=False, workers=0, sampler="EpochSampler", **changes
):
    """Runs a training; returns its model and runner."""
    config = Config(
        {
            "default_scope": "fineclip",
            "model": {"type": "NoisyRegressor"},
            "randomness": {"seed": 5},
            "train_dataloader": {
                "batch_size": BATCH,
                "num_workers": workers,
                "persistent_workers": workers > 0,
                "prefetch_factor": 2 if workers else None,
                "drop_last": True,
                "sampler": {"type": sampler, "shuffle": True, "seed": 1},
                "collate_fn": {"type": "fineclip.collate_region_text"},
                "dataset": {
                    "type": "RegionTextDataset",
                    "tokenizer": "ViT-B-16",
                    "context_length": 8,
                    "images": {"transform": {"size": 8}},
                    "regions": {"type": "BoxRegions", "max_boxes": 2},
                    "source": source,
                },
            },
            "train_cfg": {"type": "ResumableEpochLoop", "max_epochs": EPOCHS},
            "optim_wrapper": {
                "optimizer": {"type": "AdamW", "lr": 1e-2},
                "accumulative_counts": 1,
            },
            "param_scheduler": {
                "type": "WarmupCosineLR",
                "warmup_iters": 2,
                "end": EPOCHS,
                "by_epoch": True,
                "convert_to_iter_based": True,
            },
            "default_hooks": {
                "checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": 1},
                "logger": {"type": "LoggerHook", "interval": 1},
                "sampler_seed": {"type": "DistSamplerSeedHook"},
                "timer": {"type": "IterTimerHook"},
            },
            "visualizer": {"type": "Visualizer", "vis_backends": [{"type": "LocalVisBackend"}]},
            "experiment_name": f"{work_dir.parent.name}-{work_dir.name}-{stop}-{resume}",
        },
        # Checkpoints hold its text, which takes longer to lay out than these trainings.
        format_python_code=False,
    )
    config.merge_from_dict(changes)
    runner = build_runner(config, work_dir=work_dir, resume=resume)
    if stop is None:
        runner.train()
    else:
        runner.register_hook(StopAfter(stop))
        with pytest.raises(KeyboardInterrupt):
            runner.train()
    if workers:
        # Left to the garbage collector, each worker is waited for, for five seconds.
        runner.train_dataloader._iterator._shutdown_workers()
    return runner.model, runner


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """The run that is not interrupted."""
    return train(data["files"], tmp_path_factory.mktemp("whole") / "w")[0]


@pytest.mark.parametrize(
    ("kind", "stop", "workers"),
    [
        ("files", 1, 0),
        ("files", STEPS + 2, 0),
        ("files", STEPS, 0),  # at the last step of an epoch, before the epoch is closed
        ("files", 2 * STEPS + 3, 2),
        ("shards", STEPS + 1, 0),
        ("shards", STEPS + 3, 2),
    ],
)
def test_same_batches_and_same_weights(data, whole, tmp_path, kind, stop, workers):
    first, _ = train(data[kind], tmp_path / "w", stop=stop, workers=workers)
    rest, _ = train(data[kind], tmp_path / "w", resume=True, workers=workers)
    assert len(whole.seen) == EPOCHS * STEPS
    assert len({tuple(batch) for batch in whole.seen}) > STEPS
    assert first.seen + rest.seen == whole.seen
    for name, value in whole.state_dict().items():
        assert torch.equal(rest.state_dict()[name], value), name


def test_shard_sampler_resumes(data, tmp_path):
    source, sampler = data["shards"], "ShardSampler"
    one, _ = train(source, tmp_path / "one", sampler=sampler)
    first, _ = train(source, tmp_path / "two", stop=6, sampler=sampler)
    rest, _ = train(source, tmp_path / "two", resume=True, sampler=sampler)
    assert first.seen + rest.seen == one.seen
    assert torch.equal(one.layer.weight, rest.layer.weight)


def test_twice_interrupted(data, whole, tmp_path):
    seen = []
    for options in ({"stop": 2}, {"stop": 7, "resume": True}, {"resume": True}):
        model, _ = train(data["files"], tmp_path / "w", **options)
        seen += model.seen
    assert seen == whole.seen
    assert torch.equal(model.layer.weight, whole.layer.weight)


class SignalAfter(Hook):
    """The system ends the run during a step, or between epochs."""

    def __init__(self, step):
        self.step = step

    def before_train_iter(self, runner, **kwargs):
        if runner.iter + 1 == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("stop", "accumulate", "saved"), [(STEPS + 2, 1, STEPS + 2), (2 * STEPS, 1, None), (5, 3, 6)]
)
def test_a_signal_ends_with_a_checkpoint_that_resumes(
    data, tmp_path, monkeypatch, stop, accumulate, saved
):
    """After the step, and the update it belongs to; none where the regular one was due."""
    changes = {"default_hooks.checkpoint": {"by_epoch": True, "max_keep_ckpts": 1}}
    changes["optim_wrapper.accumulative_counts"] = accumulate
    whole, _ = train(data["files"], tmp_path / "whole", **changes)
    hook = SignalAfter(stop)
    with monkeypatch.context() as patch:
        patch.setattr(
            "fineclip.engine.launch.PlainCheckpointHook.before_train_iter",
            lambda _, runner, **kwargs: hook.before_train_iter(runner),
        )
        with pytest.raises(Interrupted, match=r"at step .*; continue with --resume") as caught:
            train(data["files"], tmp_path / "w", **changes)
    assert caught.value.code == 143 and f"step {saved or stop};" in str(caught.value)
    name = "interrupted.pth" if saved else "epoch_2.pth"
    assert (tmp_path / "w/last_checkpoint").read_text() == name
    rest, _ = train(data["files"], tmp_path / "w", resume=True, **changes)
    assert torch.equal(whole.layer.weight, rest.layer.weight)
    assert [file.name for file in (tmp_path / "w").glob("*.pth")] == [f"epoch_{EPOCHS}.pth"]


def test_settings_are_the_configs(data, tmp_path, capsys):
    """Learning rate, decay, length of the schedule: as if they had been so from the start."""
    train(data["files"], tmp_path / "w", stop=STEPS + 2)
    changes = {"optim_wrapper.optimizer.lr": 3e-3, "optim_wrapper.optimizer.weight_decay": 0.5}
    changes |= {"train_cfg.max_epochs": 5, "param_scheduler.end": 5}
    _, runner = train(data["files"], tmp_path / "w", resume=True, stop=STEPS + 3, **changes)
    _, straight = train(data["files"], tmp_path / "other", stop=STEPS + 3, **changes)
    for ours, theirs in zip(
        runner.optim_wrapper.param_groups, straight.optim_wrapper.param_groups, strict=True
    ):
        assert {**ours, "params": 0} == {**theirs, "params": 0}
    assert runner.max_iters == 5 * STEPS
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "resuming" in line]
    assert "weights, optimizer moments and progress are the checkpoint's" in line
    assert "optim_wrapper.optimizer.lr 0.01 -> 0.003" in line and "max_epochs 3 -> 5" in line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.objectives": [{"type": "A"}]}, r"model\.objectives\.0\.type was not set, is 'A'"),
        ({"method": "clip"}, "method was not set, is 'clip'"),
        ({"optim_wrapper.optimizer.type": "SGD"}, "optimizer.type was 'AdamW', is 'SGD'"),
        ({"train_cfg.max_epochs": 1}, "has trained 2 epochs, max_epochs is 1"),
    ],
)
def test_another_run_is_refused_by_name(data, tmp_path, monkeypatch, changes, message):
    train(data["files"], tmp_path / "w", stop=2 * STEPS + 1)
    monkeypatch.setattr(NoisyRegressor, "__init__", functools.partialmethod(_init_with_more))
    with pytest.raises(ResumeError, match=message):
        train(data["files"], tmp_path / "w", resume=True, **changes)


_init = NoisyRegressor.__init__


def _init_with_more(self, objectives=None):
    _init(self)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_end_of_an_epoch_resumes_with_other_batches(data, tmp_path, accumulate):
    """With checkpoint_steps as well: as with other processes, other batches make other steps."""
    changes = {"default_hooks.checkpoint.interval": STEPS}
    changes["optim_wrapper.accumulative_counts"] = accumulate
    train(data["files"], tmp_path / "w", stop=STEPS, **changes)
    changes |= {"train_dataloader.batch_size": 2, "default_hooks.checkpoint.interval": IMAGES // 2}
    changes["default_hooks.checkpoint.interval"] -= IMAGES // 2 % accumulate
    model, runner = train(data["files"], tmp_path / "w", resume=True, **changes)
    assert len(model.seen) == (EPOCHS - 1) * (IMAGES // 2)
    assert (runner.epoch, runner.iter) == (EPOCHS, EPOCHS * (IMAGES // 2))
    straight, other = train(data["files"], tmp_path / "straight", **changes)
    assert model.seen == straight.seen[IMAGES // 2 :]
    assert runner.optim_wrapper.get_lr() == other.optim_wrapper.get_lr()


def test_an_old_checkpoint_goes_when_the_new_one_is_complete(data, tmp_path, monkeypatch):
    saved = []

    def save(content, file):
        saved.append([f.name for f in (tmp_path / "w").glob("*.pth")])
        if len(saved) == 3:
            raise OSError(28, "No space left on device")
        return plain(content, file)

    plain = torch.save
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="No space"):
        train(data["files"], tmp_path / "w", **{"default_hooks.checkpoint.max_keep_ckpts": 1})
    assert saved == [[], ["iter_1.pth"], ["iter_2.pth"]]
    assert (tmp_path / "w/last_checkpoint").read_text() == "iter_2.pth"
    assert not [f for f in (tmp_path / "w").iterdir() if f.name.endswith(".tmp")]


def test_nothing_to_resume_is_said(data, tmp_path, capsys):
    model, _ = train(data["files"], tmp_path / "w", resume=True)
    assert len(model.seen) == EPOCHS * STEPS
    assert "holds no checkpoint, training starts from the beginning" in capsys.readouterr().out


def test_what_was_seen_is_not_decoded_again(data, tmp_path, monkeypatch):
    train(data["files"], tmp_path / "w", stop=2 * STEPS + 3)
    decoded = []
    original = image_reader_module.decode_image
    monkeypatch.setattr(
        image_reader_module,
        "decode_image",
        lambda *args, **options: decoded.append(args[1]) or original(*args, **options),
    )
    train(data["files"], tmp_path / "w", resume=True)
    assert len(decoded) == BATCH
    # Between them the two runs (of one second, perhaps, and then in one log) did each step once.
    text = "".join(log.read_text() for log in (tmp_path / "w").glob("*/*.log"))
    steps = re.findall(rf"Epoch\(train\) +\[{EPOCHS}\]\[ *(\d+)/{STEPS}\]", text)
    assert sorted(map(int, steps)) == list(range(1, STEPS + 1))


def test_dropout_is_drawn_anew_for_every_step(data, whole, tmp_path):
    """Another seed, other dropout: the generators of the model do matter for the weights."""
    other, _ = train(data["files"], tmp_path / "w", randomness={"seed": 6})
    assert other.seen == whole.seen
    assert not torch.equal(other.layer.weight, whole.layer.weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_dataloader.batch_size": 2}, "batch_size was 3, is 2"),
        ({"train_dataloader.sampler.seed": 2}, "sampler_seed was 1, is 2"),
        ({"train_dataloader.dataset.num_images": 12}, "images was 13, is 12"),
        (
            {"train_dataloader.sampler": {"type": "DefaultSampler", "seed": 1, "_delete_": True}},
            "EpochSampler or ShardSampler, not DefaultSampler",
        ),
    ],
)
def test_other_data_are_refused_within_an_epoch(data, tmp_path, changes, message):
    train(data["files"], tmp_path / "w", stop=STEPS + 2)
    with pytest.raises(ValueError, match="from the middle of an epoch") as caught:
        train(data["files"], tmp_path / "w", resume=True, **changes)
    assert message in str(caught.value)


def test_other_batches_are_welcome_between_epochs(data, tmp_path):
    by_epoch = {"default_hooks.checkpoint": {"by_epoch": True}}
    train(data["files"], tmp_path / "w", stop=STEPS + 2, **by_epoch)
    model, runner = train(
        data["files"], tmp_path / "w", resume=True, **by_epoch, **{"train_dataloader.batch_size": 2}
    )
    assert len(model.seen) == (EPOCHS - 1) * (IMAGES // 2)
    assert runner.epoch == EPOCHS


def test_checkpoints_between_updates_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match="make the interval a multiple of 2"):
        train(data["files"], tmp_path / "w", **{"optim_wrapper.accumulative_counts": 2})


def test_accumulation_resumes(data, tmp_path):
    changes = {"optim_wrapper.accumulative_counts": 2, "default_hooks.checkpoint.interval": 2}
    one, _ = train(data["files"], tmp_path / "one", **changes)
    train(data["files"], tmp_path / "two", stop=STEPS + 3, **changes)  # saved one step before
    rest, _ = train(data["files"], tmp_path / "two", resume=True, **changes)
    assert rest.seen == one.seen[STEPS + 2 :]
    assert torch.equal(one.layer.weight, rest.layer.weight)


def test_waiting_for_data_is_logged_beside_the_time_of_the_step(data, tmp_path, monkeypatch):
    """In the log and in the scalars; a slow data set shows."""
    import time

    plain = RegionTextDataset.__getitem__
    monkeypatch.setattr(
        RegionTextDataset, "__getitem__", lambda *args: time.sleep(0.02) or plain(*args)
    )
    train(data["files"], tmp_path / "w")
    (scalars,) = tmp_path.glob("w/*/vis_data/scalars.json")
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    assert len(lines) == EPOCHS * STEPS
    for line in lines:
        assert BATCH * 0.02 <= line["data_time"] <= line["time"]
    (log,) = tmp_path.glob("w/*/*.log")
    (first, *_) = [line for line in log.read_text().splitlines() if "Epoch(train)" in line]
    assert " time: " in first
    assert " data_time: " in first
