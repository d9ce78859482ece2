"""A CLIP that is fine-tuned on one's own boxes: its stages, and what it is asked."""

import json

import numpy as np
import pytest
import torch
from job_runs import jobs_in_process

from fineclip.checkpoints import read_checkpoint
from fineclip.configuration.plain import write_plain_config
from fineclip.datasets.description import read_description
from fineclip.engine import load_config
from fineclip.experiments.clip_finetuning import ClipExaminer
from fineclip.experiments.examining import Question
from fineclip.experiments.finetuning import FineTuning, run_finetuning
from fineclip.looking import load_trained_clip
from fineclip.models import DenseCLIP, build_class_embeddings
from fineclip.scenes import make_scenes
from fineclip.scenes.own_shapes import make_own_shapes

MODEL = "ViT-Ti-8-scenes"


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "shapes"
    make_own_shapes(folder, images=6, val_images=4, size=64)
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """What a training has left that has learned nothing yet."""
    root = tmp_path_factory.mktemp("start")
    make_scenes(root / "scenes", images=2, val_images=4, size=64)
    file = root / "run" / "epoch_1.pth"
    file.parent.mkdir()
    options = {"data_root": str(root / "scenes"), "image_size": 32, "crop_size": 16}
    write_plain_config(load_config("configs/fineclip/scenes.py", options), file.parent)
    torch.manual_seed(0)
    torch.save({"state_dict": DenseCLIP.create(MODEL).clip.state_dict()}, file)
    return file


@pytest.fixture(scope="module")
def finished(own, start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetuned")
    settings = FineTuning(
        data=own / "data.yaml",
        start=start,
        keep=frozenset({"interpolate"}),
        alphas=(0.5, 1.0),
        recipe={"epochs": 1, "batch_size": 3},
    )
    with jobs_in_process():
        return folder, run_finetuning(settings, folder)


def test_summary(finished):
    folder, summary = finished
    assert summary == json.loads((folder / "summary.json").read_text())
    assert summary["task"] == "clip"
    assert summary["kept"]["before"].keys() == {"top1", "base_top1", "novel_top1"}
    assert [point["alpha"] for point in summary["alpha"]["curve"]] == [0, 0.5, 1]
    assert summary["images"] == dict.fromkeys(
        ["own choose", "own report", "kept choose", "kept report"], 2
    )


def test_the_weights_are_the_chosen_mix(finished, start):
    folder, summary = finished
    name, clip = load_trained_clip(None, str(folder / "finetuned.pth"), torch.device("cpu"))
    assert name == MODEL
    first = DenseCLIP.create(MODEL, str(start)).clip.state_dict()
    last = folder / "stages" / "training" / "epoch_1.pth"
    trained = read_checkpoint(last)["state_dict"]
    alpha, key = summary["alpha"]["chosen"], "visual.conv1.weight"
    (of_training,) = (value for k, value in trained.items() if k.endswith(key))
    mixed = (1 - alpha) * first[key] + alpha * of_training
    assert not torch.equal(of_training, first[key])
    torch.testing.assert_close(clip.clip.state_dict()[key], mixed)


def test_answers_equal_a_loop_over_boxes(own, start):
    """Boxes pooled one at a time, each named by the most similar class."""
    data = read_description(own)
    examiner = ClipExaminer(start, data, str(own), None, seed=3)
    clip = DenseCLIP.create(MODEL, str(start)).eval()
    names = data.vocabulary.names
    classes = build_class_embeddings(clip, names, "plain")
    hits = {}
    for place in examiner._data["own", "report"].indices:
        item = examiner._data["own", "report"].dataset[place]
        pixels = item["image"][None].float() / 255
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (clip.image_mean, clip.image_std))
        pixels = (pixels - mean) / std
        for box, label in zip(item["boxes"], item["data_sample"]["labels"], strict=True):
            region = clip.encode_regions(pixels, [torch.as_tensor(box)[None].float()])
            hits.setdefault(int(label), []).append(int((region @ classes.T).argmax()) == label)
    wanted = 100 * np.mean([np.mean(of_class) for of_class in hits.values()])
    assert examiner.answer(Question(0.0, "own", "report"))["top1"] == pytest.approx(wanted)
    # With an offset that nothing outweighs, one's own classes are all that is answered.
    together = examiner.answer(Question(0.0, "own", "report", together=True, offset=1e4))
    assert together["top1"] == pytest.approx(wanted)


def test_what_it_cannot_do_is_said(own, start, tmp_path):
    settings = FineTuning(data=own, start=start, keep=frozenset({"rehearse"}))
    with jobs_in_process(), pytest.raises(ValueError, match="a CLIP does not rehearse"):
        run_finetuning(settings, tmp_path / "new")
