"""The scenes experiment: what it returns, and that it goes on where it stopped."""

import pytest
import torch

pytest.importorskip("detectron2")

from fineclip.models import DenseCLIP
from fineclip.scenes import make_scenes
from segmentation.experiments import scenes as experiment


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes_experiment")
    make_scenes(root / "scenes", images=4, val_images=2, size=32)
    torch.manual_seed(0)
    torch.save(DenseCLIP.create("ViT-Ti-8-scenes").clip.state_dict(), root / "clip.pt")
    return {"data": root / "scenes", "init_checkpoint": root / "clip.pt"}


def test_scores_and_resume(inputs, tmp_path):
    scores = experiment.train_segmenter(tmp_path, **inputs, steps=1)["metrics"]
    assert set(scores) == {"miou", "macc", "novel_miou"}
    assert all(0 <= value <= 100 for value in scores.values())
    # As from a command: segment.py and reports find the configuration beside the weights.
    assert "CONFIG_NAME: scenes_vit-ti-8" in (tmp_path / "config.yaml").read_text()
    trained = (tmp_path / "model_final.pth").stat().st_mtime_ns
    # What is finished is evaluated again, not trained again.
    assert experiment.train_segmenter(tmp_path, **inputs, steps=1)["metrics"] == scores
    assert (tmp_path / "model_final.pth").stat().st_mtime_ns == trained


def test_bad_input(inputs, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pt does not exist"):
        experiment.train_segmenter(
            tmp_path, data=inputs["data"], init_checkpoint=tmp_path / "none.pt"
        )
    with pytest.raises(ValueError, match="must be called 'scenes'"):
        experiment.train_segmenter(
            tmp_path, data=tmp_path, init_checkpoint=inputs["init_checkpoint"]
        )
    (tmp_path / "scenes").mkdir()
    with pytest.raises(FileNotFoundError, match="scenes_train_base_sem_seg"):
        experiment.train_segmenter(
            tmp_path, data=tmp_path / "scenes", init_checkpoint=inputs["init_checkpoint"]
        )
