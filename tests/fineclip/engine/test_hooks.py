import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fineclip.engine import ClampLogitScaleHook, PlainCheckpointHook, SkippedSamplesHook
from fineclip.engine.hooks import EMATeacherHook, FrozenPrototypesHook
from fineclip.images import UnusableImageError


@pytest.mark.parametrize(("value", "expected"), [(9.0, math.log(100)), (-1.0, 0.0), (2.0, 2.0)])
def test_logit_scale_is_clamped(value, expected):
    clip = SimpleNamespace(logit_scale=nn.Parameter(torch.tensor(value)))
    model = nn.Module()
    model.clip = clip
    ClampLogitScaleHook().after_train_iter(SimpleNamespace(model=model), 0)
    assert clip.logit_scale.item() == pytest.approx(expected)


def test_each_skipped_file_is_named_once_and_counted(caplog):
    logger = logging.getLogger("skipped")
    runner = SimpleNamespace(logger=logger)
    hook = SkippedSamplesHook()
    with caplog.at_level(logging.WARNING, "skipped"):
        for batch in ([("a.jpg", "broken")], [], [("a.jpg", "broken"), ("b.jpg", "missing")]):
            hook.after_train_iter(runner, 0, data_batch={"images": [0], "skipped": batch})
        hook.after_train_epoch(runner)
        hook.after_train_epoch(runner)
    assert caplog.messages == [
        "skipped a.jpg: broken",
        "skipped b.jpg: missing",
        "3 images were skipped in this epoch",
    ]


def epoch_of(images):
    loader = SimpleNamespace(dataset=range(images))
    hook = SkippedSamplesHook()
    runner = SimpleNamespace(
        logger=logging.getLogger("skipped"), train_dataloader=loader, val_dataloader=loader
    )
    return hook, runner


def test_an_epoch_that_loses_too_many_images_ends_the_run():
    hook, runner = epoch_of(50)
    hook.before_train_epoch(runner)
    for number in range(9):
        batch = {"images": [0], "skipped": [(f"{number}.jpg", "no such file")]}
        hook.after_train_iter(runner, number, data_batch=batch)
    with pytest.raises(UnusableImageError, match=r"0\.jpg: .*10 images cannot be used, more than"):
        hook.after_train_iter(runner, 9, data_batch=batch)


def test_an_epoch_without_a_usable_image_ends_the_run():
    hook, runner = epoch_of(4)
    hook.before_train_epoch(runner)
    batch = {"images": [], "skipped": [("a.jpg", "no such file")] * 4}
    hook.after_train_iter(runner, 0, data_batch=batch)
    with pytest.raises(UnusableImageError, match=r"a\.jpg: no such file .*all that there were"):
        hook.after_train_epoch(runner)


def test_samples_of_mmdet_say_what_they_stand_in_for(caplog):
    hook, runner = epoch_of(100)
    samples = [SimpleNamespace(metainfo={}) for _ in range(2)]
    samples[1].metainfo["skipped"] = [("a.jpg", "no such file")]
    batch = {"inputs": [0, 0], "data_samples": samples}
    with caplog.at_level(logging.WARNING, "skipped"):
        hook.before_train_epoch(runner)
        hook.after_train_iter(runner, 0, data_batch=batch)
        hook.after_train_epoch(runner)
        hook.before_val_epoch(runner)
        hook.after_val_iter(runner, 0, data_batch=batch)
        hook.after_val_epoch(runner, metrics={})
    assert caplog.messages == [
        "skipped a.jpg: no such file",
        "1 images were skipped in this epoch",
        "1 images were skipped in this evaluation",
    ]
    hook.before_val_epoch(runner)
    hook.after_val_iter(runner, 0, data_batch={"inputs": [0], "data_samples": samples[1:]})
    with pytest.raises(UnusableImageError, match="all that there were"):
        hook.after_val_epoch(runner)


def test_checkpoints_hold_plain_values(tmp_path):
    checkpoint = {
        "message_hub": {
            "log_scalars": {"train/loss": object()},
            "runtime_info": {"iter": 3, "eta": np.float64(1.5)},
            "resumed_keys": {"train/loss": True, "iter": True},
        }
    }
    PlainCheckpointHook().before_save_checkpoint(None, checkpoint)
    torch.save(checkpoint, tmp_path / "c.pth")
    hub = torch.load(tmp_path / "c.pth", weights_only=True)["message_hub"]
    assert hub == {
        "log_scalars": {},
        "runtime_info": {"iter": 3, "eta": 1.5},
        "resumed_keys": {"iter": True},
    }


class TeacherRecorder(nn.Module):
    """Stands in for a model with an EMA teacher."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def start_ema_teacher(self):
        self.calls.append("start")

    def update_ema_teacher(self, momentum):
        self.calls.append(momentum)


def test_ema_teacher_moves_when_the_optimizer_steps():
    """Two of four iterations step; the momentum is that of the iteration."""
    model = TeacherRecorder()
    runner = SimpleNamespace(model=model, iter=0, max_iters=4)
    runner.optim_wrapper = SimpleNamespace(should_update=lambda: runner.iter % 2 == 1)
    hook = EMATeacherHook(momentum=0.6, final_momentum=1.0)
    hook.before_train(runner)
    for runner.iter in range(4):
        hook.after_train_iter(runner, 0)
    half = math.sqrt(0.5)
    expected = [1 - 0.4 * (1 + half) / 2, 1 - 0.4 * (1 - half) / 2]
    assert model.calls[0] == "start"
    assert model.calls[1:] == pytest.approx(expected)
    assert hook.momentum_at(0, 4) == pytest.approx(0.6)
    assert hook.momentum_at(4, 4) == pytest.approx(1.0)


def test_ema_momentum_is_fixed_unless_it_is_to_move():
    hook = EMATeacherHook(momentum=0.7)
    assert [hook.momentum_at(step, 4) for step in range(5)] == pytest.approx([0.7] * 5)


def test_prototypes_stand_still_in_the_first_epochs():
    model = nn.Module()
    model.prototype_head = nn.Module()
    hook, frozen = FrozenPrototypesHook(epochs=2), []
    for epoch in range(4):
        hook.before_train_epoch(SimpleNamespace(model=model, epoch=epoch))
        frozen.append(model.prototype_head.frozen)
    assert frozen == [True, True, False, False]
    with pytest.raises(ValueError, match="epochs: expected an integer from 0 on, got -1"):
        FrozenPrototypesHook(epochs=-1)


def test_ema_momentum_is_a_share():
    with pytest.raises(ValueError, match=r"momentum: expected a number from 0 to 1, got 1.5"):
        EMATeacherHook(momentum=1.5)
