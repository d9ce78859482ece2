import os
import pickle

import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import _load_checkpoint
from safetensors.torch import save_file

from fineclip.checkpoints import CheckpointError, identify, install_safe_loader, load
from fineclip.models import DenseCLIP


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(1)
    return DenseCLIP.create("ViT-Ti-16").clip


def save(state_dict, path):
    if path.suffix == ".safetensors":
        save_file(state_dict, path)
    else:
        torch.save(state_dict, path)
    return path


@pytest.mark.parametrize(
    "layout", ["bare", "nested", "module", "safetensors", "pretrainer", "dense_clip"]
)
def test_layouts_load_to_the_same_weights(clip, layout, tmp_path):
    state = clip.state_dict()
    content, name = {
        "bare": (state, "m.pt"),
        "nested": ({"state_dict": state, "epoch": 3}, "m.pt"),
        "module": ({"state_dict": {f"module.{k}": v for k, v in state.items()}}, "m.pth"),
        "safetensors": (state, "m.safetensors"),
        "dense_clip": ({f"clip.{k}": v for k, v in state.items()}, "m.safetensors"),
        "pretrainer": ({"state_dict": {f"clip.clip.{k}": v for k, v in state.items()}}, "m.pth"),
    }[layout]
    path = save(content, tmp_path / name)
    ours = layout in ("pretrainer", "dense_clip")
    assert identify(path) == ("fineclip" if ours else "open_clip")
    assert load(path).keys() == state.keys()
    torch.manual_seed(2)
    loaded = DenseCLIP.create("ViT-Ti-16", str(path)).clip.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


class RunsCode:
    """Pickles to a call that leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_code_is_refused_and_does_not_run(tmp_path, writer):
    proof, path = tmp_path / "ran", tmp_path / "evil.pt"
    content = {"state_dict": {"logit_scale": torch.ones(())}, "extra": RunsCode(proof)}
    if writer == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match="was refused"):
        load(path)
    install_safe_loader()
    with pytest.raises(CheckpointError, match="was refused"):
        _load_checkpoint(str(path))
    assert not proof.exists()
    # The file would have run its code where loading is careless.
    torch.load(path, weights_only=False) if writer == "torch" else pickle.loads(path.read_bytes())
    assert proof.exists()


def test_safe_loader_covers_local_files_and_urls():
    install_safe_loader()
    for path in ("model.pth", "http://host/model.pth", "https://host/model.pth"):
        loader = CheckpointLoader._get_checkpoint_loader(path)
        assert loader.__module__ == "fineclip.checkpoints.safe"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pt", b"", "is empty"),
        ("text.pt", b"hello world", "was refused|damaged"),
        ("cut.safetensors", b"\x20\x00\x00\x00\x00\x00\x00\x00{", "not a complete safetensors"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / name)


def test_truncated_folder_missing_and_foreign(clip, tmp_path):
    path = save(clip.state_dict(), tmp_path / "m.pt")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"m\.pt (is damaged|was refused)"):
        load(path)
    with pytest.raises(CheckpointError, match="is a folder"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load(tmp_path / "none.pt")
    with pytest.raises(CheckpointError, match=r"no known format.*first keys are conv"):
        load(save({"conv": torch.ones(1)}, tmp_path / "other.pt"))
    with pytest.raises(CheckpointError, match="no state dict"):
        load(save([1, 2], tmp_path / "list.pt"))


def test_misfit_lists_the_keys(clip, tmp_path):
    state = dict(clip.state_dict())
    state["surplus"] = torch.ones(1)
    del state["ln_final.bias"]
    state["ln_final.weight"] = torch.ones(3)
    path = save(state, tmp_path / "m.pt")
    with pytest.raises(CheckpointError) as caught:
        DenseCLIP.create("ViT-Ti-16", str(path))
    for part in (
        "1 missing key: ln_final.bias",
        "1 unknown key: surplus",
        "1 wrong shape: ln_final.weight (3,) instead of (64,)",
    ):
        assert part in str(caught.value)


def test_only_the_logit_bias_may_be_absent(clip, tmp_path):
    path = save(clip.state_dict(), tmp_path / "m.pt")
    model = DenseCLIP.create("ViT-Ti-16", str(path), init_logit_bias=-10.0)
    assert model.logit_bias.item() == -10
    assert torch.equal(model.clip.ln_final.weight, clip.ln_final.weight)
    unexpected = save({**clip.state_dict(), "logit_bias": torch.zeros(())}, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="1 unknown key: logit_bias"):
        DenseCLIP.create("ViT-Ti-16", str(unexpected))
