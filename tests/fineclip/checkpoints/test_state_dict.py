"""Where weights are in a file, and what is before their names."""

import pytest
import torch
from mmengine.runner.checkpoint import _load_checkpoint

from fineclip.checkpoints import CheckpointError, convert, identify, install_safe_loader, load
from fineclip.checkpoints.conversion import convert_source
from fineclip.checkpoints.source import source_from
from fineclip.checkpoints.state_dict import state_dict_of


@pytest.mark.parametrize(
    "prefix",
    [
        *("_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."),
        *("model.", "student.", "_orig_mod.model.", "model._orig_mod.", "module.student.model."),
        *("clip.clip.", "module.clip._orig_mod.clip.", "model.clip.", "encoder.vlm."),
    ],
)
@pytest.mark.parametrize("form", ["open_clip", "eva_clip", "huggingface", "catseg", "fvit"])
def test_wrappers_in_any_order(tiny_vit, tiny_eva, prefix, form):
    model = tiny_eva if form == "eva_clip" else tiny_vit
    state = convert_source(source_from(model.state_dict(), "clip"), to=form).tensors
    wrapped = source_from({f"{prefix}{key}": value for key, value in state.items()}, "wrapped")
    bare = source_from(state, "bare")
    assert wrapped.format in (bare.format, "fineclip")
    assert wrapped.clip.keys() == bare.clip.keys()
    assert all(torch.equal(value, wrapped.clip[key]) for key, value in bare.clip.items())
    # Keys are reported as the file has them.
    assert {n for k in wrapped.clip for n in wrapped.originals(k)} <= {
        f"{prefix}{k}" for k in state
    }


def test_a_compiled_part_of_a_model(tiny_vit, save, tmp_path):
    state = tiny_vit.state_dict()
    content = {
        key.replace("visual.", "visual._orig_mod.").replace(
            "resblocks.1.", "resblocks.1._orig_mod."
        ): value
        for key, value in state.items()
    }
    assert load(save(content, tmp_path / "m.pt")).keys() == state.keys()


@pytest.mark.parametrize("teacher", ["teacher.", "ema_model.module."])
def test_a_teacher_beside_the_model_is_reported_and_left_out(tiny_vit, teacher):
    state = tiny_vit.state_dict()
    both = {f"student.{key}": value for key, value in state.items()}
    both |= {f"{teacher}{key}": value + 1 for key, value in state.items()}
    converted = convert_source(source_from(both, "file"), to="open_clip")
    assert torch.equal(converted.tensors["ln_final.bias"], state["ln_final.bias"])
    assert {key for key, _ in converted.report.dropped} == {f"{teacher}{key}" for key in state}


def test_two_models_are_not_chosen_from(tiny_vit, save, tmp_path):
    state = tiny_vit.state_dict()
    both = {f"{name}.{key}": value for name in ("model", "net") for key, value in state.items()}
    path = save(both, tmp_path / "both.pt")
    with pytest.raises(CheckpointError, match=r"both\.pt holds several models, at model\., net\."):
        load(path)
    report = convert(path, tmp_path / "one.pt", to="open_clip", ignore=["net.*"])
    assert {key for key, _ in report.dropped} == {key for key in both if key.startswith("net.")}


@pytest.mark.parametrize(
    "outside",
    [("model",), ("student",), ("model_state_dict",), ("module",), ("model", "state_dict")],
)
def test_containers(tiny_vit, save, tmp_path, outside):
    content = dict(tiny_vit.state_dict())
    for name in reversed(outside):
        content = {name: content, "epoch": 3}
    path = save(content, tmp_path / "m.pth")
    assert identify(path) == "open_clip"
    assert load(path).keys() == tiny_vit.state_dict().keys()
    install_safe_loader()
    found = _load_checkpoint(str(path))
    assert found["state_dict"].keys() == tiny_vit.state_dict().keys()
    assert found["epoch"] == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a mapping from names to tensors, got list"),
        ({"state_dict": 5}, "state_dict: expected a mapping from names to tensors, got int"),
        ({"model": {"a": {"b": 1}}}, "model: a: expected a plain tensor, got dict"),
        ({"a.weight": 1.5}, r"a\.weight: expected a plain tensor, got float"),
        ({3: torch.ones(1)}, "expected names of tensors, got 3"),
        ({"a": torch.ones(2, 2).to_sparse()}, "a: expected a plain tensor, got torch.sparse"),
        ({}, "empty state dict"),
        ({"state_dict": {}}, "empty state dict"),
        ({"a": torch.ones(1), "_orig_mod.a": torch.ones(1)}, "a twice: as a and as _orig_mod.a"),
    ],
)
def test_what_is_no_state_dict_is_said_by_file_and_key(content, message):
    with pytest.raises(CheckpointError, match=rf"^file\.pth .*{message}"):
        state_dict_of(content, "file.pth")
