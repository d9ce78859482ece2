"""A segmenter is fine-tuned and asked: each stage once, on a tiny network."""

import json

import pytest
import torch

pytest.importorskip("detectron2")

from fineclip.checkpoints import read_checkpoint
from fineclip.experiments.examining import Question
from fineclip.models import DenseCLIP
from fineclip.scenes import make_scenes
from fineclip.scenes.own_shapes import make_own_shapes
from segmentation.experiments.scenes import train_segmenter
from segmentation.finetuning.jobs import FROZEN, examine_segmenter, finetune_segmenter
from segmentation.inference import load_segmenter

RECIPE = {"epochs": 1, "batch_size": 2, "lr": 0.01}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Scenes, a segmenter that has hardly learned anything, and own data."""
    root = tmp_path_factory.mktemp("segmenter")
    make_scenes(root / "scenes", images=4, val_images=4, size=32)
    make_own_shapes(root / "own", images=4, val_images=4, size=32)
    torch.manual_seed(0)
    torch.save(DenseCLIP.create("ViT-Ti-8-scenes").clip.state_dict(), root / "clip.pt")
    train_segmenter(root / "start", data=root / "scenes", init_checkpoint=root / "clip.pt", steps=1)
    return root


@pytest.fixture(scope="module")
def stages(files):
    start, own, scenes = (str(files / name) for name in ("start", "own", "scenes"))
    asked = {"start": start, "data": own, "reference": scenes}
    found = {}
    for name, function, options in (
        ("before", examine_segmenter, asked),
        (
            "training",
            finetune_segmenter,
            {
                "start": start,
                "data": own,
                "recipe": RECIPE,
                "frozen": True,
                "rehearse": {"data": scenes, "share": 0.5},
            },
        ),
        (
            "after",
            examine_segmenter,
            {
                **asked,
                "trained": str(files / "training" / "model_final.pth"),
                "alphas": [1.0],
                "offsets": [0.0, 50.0],
                "before": str(files / "before"),
            },
        ),
    ):
        folder = files / name
        folder.mkdir()
        found[name] = function(folder, **options)
        (folder / "result.json").write_text(json.dumps(found[name]))
    return found


def test_scores_of_base_and_novel_classes(stages):
    before = stages["before"]["examined"]
    assert before["report"]["own"].keys() == {"miou"}
    assert {"base_miou", "miou"} <= before["report"]["kept"].keys()
    assert before["images"] == dict.fromkeys(before["images"], 2)
    assert stages["after"]["examined"]["alpha"] == 1


def test_only_the_decoder_trains(files, stages):
    start = read_checkpoint(files / "start" / "model_final.pth")["model"]
    found = read_checkpoint(files / "training" / "model_final.pth")["model"]
    changed = {name for name, value in found.items() if not torch.equal(value, start[name])}
    assert changed and all(name.startswith(FROZEN) for name in changed)
    # As many steps are on one's own images as without rehearsing.
    assert stages["training"]["said"].startswith("4 steps of 2")


def test_an_offset_takes_pixels_from_the_others(files, stages):
    entries = json.loads((files / "after" / "answers.json").read_text())
    answers = {Question(**question): scores for question, scores in entries}

    def asked(side, offset):
        return answers[Question(1.0, side, "choose", together=True, offset=offset)]

    assert asked("kept", 50.0)["miou"] == 0 < asked("kept", 0.0)["miou"]
    assert asked("own", 50.0)["miou"] >= asked("own", 0.0)["miou"]
    assert stages["after"]["examined"]["offset"] == 0


def test_the_weights_segment(files, stages):
    folder = files / "after"
    segmenter = load_segmenter(folder / "finetuned.pth", config_file=folder / "config.yaml")
    assert segmenter.model.sem_seg_head.predictor is not None
