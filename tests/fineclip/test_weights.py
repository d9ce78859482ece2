"""A work dir stands for its last checkpoint, wherever weights are asked for."""

import pytest
import torch

from fineclip.checkpoints import identify, load
from fineclip.models import DenseCLIP
from fineclip.models.class_embedding_files import weights_identity
from fineclip.weights import (
    check_weights,
    config_beside,
    is_work_dir,
    resolved,
    weights_file,
)


@pytest.fixture
def work_dir(tmp_path):
    """Two checkpoints, and a pointer to the second where the folder lay before."""
    for name in ("epoch_1.pth", "epoch_2.pth"):
        (tmp_path / name).write_text(name)
    (tmp_path / "last_checkpoint").write_text("/elsewhere/run/epoch_2.pth\n")
    return tmp_path


def test_the_last_checkpoint_lies_beside_its_pointer(work_dir):
    last = work_dir / "epoch_2.pth"
    assert is_work_dir(work_dir) and not is_work_dir(last)
    assert weights_file(work_dir) == weights_file(last) == last
    assert resolved(work_dir) == str(last)
    assert (resolved("openai"), resolved(work_dir.parent)) == ("openai", str(work_dir.parent))


@pytest.mark.parametrize(("content", "says"), [("", "is empty"), ("epoch_3.pth", "does not exist")])
def test_a_pointer_to_nothing_is_an_error(work_dir, content, says):
    (work_dir / "last_checkpoint").write_text(content)
    with pytest.raises(ValueError, match=f"last_checkpoint .*{says}"):
        weights_file(work_dir)


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no checkpoint of a training"):
        weights_file(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no\.pth does not exist"):
        weights_file(tmp_path / "no.pth")
    for tag in ("openai", None, "https://example.org/w.pth"):
        check_weights(tag)
    for file in ("no.pth", "runs/no"):
        with pytest.raises(FileNotFoundError, match=f"--weights: checkpoint {file}"):
            check_weights(file)


def test_a_configuration_beside_weights(tmp_path):
    assert config_beside(tmp_path / "model_final.pth") is None
    (tmp_path / "config.yaml").write_text("VERSION: 2\n")
    assert config_beside(tmp_path / "model_final.pth") == tmp_path / "config.yaml"


def test_readers_of_weights_take_a_work_dir(tmp_path):
    torch.manual_seed(0)
    trained = DenseCLIP.create("ViT-Ti-16")
    torch.save({"state_dict": trained.clip.state_dict()}, tmp_path / "epoch_1.pth")
    (tmp_path / "last_checkpoint").write_text("epoch_1.pth")
    assert identify(tmp_path) == "open_clip"
    read = DenseCLIP.create("ViT-Ti-16", str(tmp_path)).clip.state_dict()
    for key, value in load(tmp_path).items():
        assert torch.equal(value, read[key])
    alone = weights_identity("ViT-Ti-16", tmp_path / "epoch_1.pth")
    assert weights_identity("ViT-Ti-16", tmp_path) == alone
