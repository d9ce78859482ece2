"""WiSE-FT after the fact: ``convert_checkpoint.py --mix START --alpha A``."""

import pytest
import torch

from fineclip.checkpoints import convert, load
from fineclip.checkpoints.mixing import mixed_tensors
from fineclip.checkpoints.safe import CheckpointError


@pytest.fixture
def two(tiny_eva, save, tmp_path):
    """Start weights in open_clip's naming, trained ones in EVA-CLIP's."""
    start = {name: value.clone() for name, value in tiny_eva.state_dict().items()}
    trained = {
        name: value * 1.5 + 0.25 if value.is_floating_point() and "attn_mask" not in name else value
        for name, value in start.items()
    }
    save(start, tmp_path / "start.pt")
    save(trained, tmp_path / "trained_open_clip.pt")
    convert(tmp_path / "trained_open_clip.pt", tmp_path / "trained.pt", to="eva_clip")
    return tmp_path, start, trained


def arguments(folder):
    return {"to": "open_clip", "mix": folder / "start.pt"}


@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0])
def test_every_tensor_is_mixed_across_formats(two, alpha):
    folder, start, trained = two
    report = convert(folder / "trained.pt", folder / "mix.pt", **arguments(folder), alpha=alpha)
    assert f"mixed: {alpha} x this file" in str(report)
    result = load(folder / "mix.pt")
    for name, value in result.items():
        if value.is_floating_point() and "attn_mask" not in name:
            expected = alpha * trained[name] + (1 - alpha) * start[name]
            torch.testing.assert_close(value, expected, msg=name)


def test_half_precision_stays_half(two, save):
    folder, start, trained = two
    save({k: v.half() for k, v in trained.items()}, folder / "half.pt")
    convert(folder / "half.pt", folder / "mix.pt", **arguments(folder), alpha=0.5)
    value = torch.load(folder / "mix.pt", weights_only=True)["logit_scale"]
    assert value.dtype == torch.float16
    assert value.item() == pytest.approx(
        (trained["logit_scale"] + start["logit_scale"]).item() / 2, rel=1e-3
    )


def test_what_does_not_go_together_is_refused(two, tiny_vit, save):
    folder, *_ = two
    given = arguments(folder)
    with pytest.raises(ValueError, match="mix and alpha go together"):
        convert(folder / "trained.pt", folder / "mix.pt", **given)
    with pytest.raises(ValueError, match=r"alpha must be from 0 to 1, got 1\.5"):
        convert(folder / "trained.pt", folder / "mix.pt", **given, alpha=1.5)
    given["mix"] = save(tiny_vit.state_dict(), folder / "vit.pt")
    with pytest.raises(CheckpointError, match=r"vit\.pt is no start of .*missing key"):
        convert(folder / "trained.pt", folder / "mix.pt", **given, alpha=0.5)
    assert not (folder / "mix.pt").exists()


def test_whole_models_are_mixed_by_name():
    start = {"w": torch.zeros(2, dtype=torch.float16), "steps": torch.tensor(1)}
    trained = {"w": torch.ones(2, dtype=torch.float16), "steps": torch.tensor(9)}
    found = mixed_tensors(trained, start, 0.25)
    assert found["w"].dtype == torch.float16 and found["w"].tolist() == [0.25, 0.25]
    assert found["steps"] == 9
    with pytest.raises(CheckpointError, match="1 missing key: bias"):
        mixed_tensors(trained, {**start, "bias": torch.zeros(1)}, 0.5)
    with pytest.raises(ValueError, match="alpha must be from 0 to 1"):
        mixed_tensors(trained, start, 1.5)
