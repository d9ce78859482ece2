"""Whole models: nothing is loaded that is not theirs."""

import copy

import pytest
import torch
from torch import nn

from fineclip.checkpoints import CheckpointError, check_progress, load_trained
from fineclip.checkpoints.conversion import convert_source
from fineclip.checkpoints.source import source_from


class Pretrainer(nn.Module):
    """The names of a pretrainer with SILC's parts."""

    def __init__(self, clip):
        super().__init__()
        self.clip = nn.Module()
        self.clip.clip = clip
        self.prototype_head = nn.Linear(2, 3)
        self.norm = nn.BatchNorm1d(2)


@pytest.fixture
def model(tiny_vit):
    return Pretrainer(copy.deepcopy(tiny_vit))


def as_saved(model, **changes):
    state = {key: value.clone() for key, value in model.state_dict().items()}
    progress = {"meta": {"epoch": 1, "iter": 4}, "message_hub": {}, "optimizer": {}}
    return {**progress, "state_dict": {k: v for k, v in (state | changes).items() if v is not None}}


def test_what_was_saved_is_loaded(model):
    saved = as_saved(model)
    saved["state_dict"]["prototype_head.bias"] += 1
    load_trained(model, saved, "f.pth", resume=True)
    assert torch.equal(model.prototype_head.bias, saved["state_dict"]["prototype_head.bias"])


@pytest.mark.parametrize("key", ["prototype_head.weight", "norm.num_batches_tracked"])
def test_what_belongs_to_a_method_may_be_missing_unless_it_goes_on(model, key):
    less = as_saved(model, **{key: None})
    load_trained(model, less, "f.pth")
    if key.startswith("norm"):
        load_trained(model, less, "f.pth", resume=True)
        return
    with pytest.raises(CheckpointError, match=r"1 missing key: prototype_head\.weight"):
        load_trained(model, less, "f.pth", resume=True)


def test_what_belongs_to_another_method_may_be_left_over(model):
    more = as_saved(
        model, **{"ema_teacher.steps": torch.ones(()), "objectives.0.center": torch.ones(2)}
    )
    load_trained(model, more, "f.pth")
    said = r"2 unknown keys: ema_teacher\.steps, objectives\.0\.center"
    with pytest.raises(CheckpointError, match=said):
        load_trained(model, more, "f.pth", resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip.clip.ln_final.bias": None}, r"1 missing key: clip\.clip\.ln_final\.bias"),
        (
            {"clip.clip.ln_final.bias": torch.ones(3)},
            r"1 wrong shape: clip\.clip\.ln_final\.bias \(3,\) instead of \(64,\)",
        ),
        (
            {"clip.clip.ln_final.bias": torch.ones(64, dtype=torch.int64)},
            r"1 wrong type: clip\.clip\.ln_final\.bias torch\.int64 instead of torch\.float32",
        ),
        ({"clip.adapter": torch.ones(3)}, r"1 unknown key: clip\.adapter"),
        ({"clip.clip.ln_final.bias": torch.full((64,), torch.nan)}, "NaN or infinite .* in 1 of"),
        ({"clip.clip.logit_scale": torch.tensor(torch.inf)}, "NaN or infinite .*logit_scale"),
    ],
)
def test_misfits(model, changes, message):
    for resume in (False, True):
        with pytest.raises(CheckpointError, match=rf"^f\.pth .*{message}"):
            load_trained(model, as_saved(model, **changes), "f.pth", resume=resume)


@pytest.mark.parametrize(
    ("form", "kind"),
    [("catseg", "CAT-Seg naming"), ("fvit", "F-ViT, mmdet 3"), ("open_clip", "open_clip naming")],
)
def test_files_of_other_models_are_named(model, tiny_vit, form, kind):
    state = convert_source(source_from(tiny_vit.state_dict(), "clip"), to=form).tensors
    with pytest.raises(CheckpointError, match=rf"f\.pth \({kind}.*\) does not fit the Pretrainer"):
        load_trained(model, {"state_dict": state}, "f.pth")
    with pytest.raises(CheckpointError, match="of no known format"):
        load_trained(model, {"weight": torch.ones(2)}, "f.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"meta": None}, "does not say how far its training was"),
        ({"meta": {"epoch": "1", "iter": 4}}, r"meta\.epoch: expected a number from 0 on, got '1'"),
        ({"meta": {"epoch": 1, "iter": -4}}, r"meta\.iter: expected a number from 0 on, got -4"),
        ({"meta": {"epoch": 1}}, r"meta\.iter: expected a number from 0 on, got None"),
        ({"optimizer": None}, "optimizer: expected a mapping, got NoneType"),
        ({"message_hub": [1]}, "message_hub: expected a mapping, got list"),
    ],
)
def test_what_cannot_be_resumed(model, changes, message):
    saved = {**as_saved(model), **changes}
    load_trained(model, saved, "f.pth")
    with pytest.raises(CheckpointError, match=message):
        check_progress(saved, "f.pth", max_epochs=2)


def test_only_a_finished_training_needs_no_optimizer(model):
    saved = as_saved(model)
    del saved["optimizer"]
    check_progress(saved, "f.pth", max_epochs=1)
    with pytest.raises(CheckpointError, match="optimizer: expected a mapping"):
        check_progress(saved, "f.pth", max_epochs=2)
