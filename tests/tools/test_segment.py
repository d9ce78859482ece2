"""A segmenter names the pixels of pictures, through the command line."""

import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tool_runs import absent

from fineclip.images import read_image
from fineclip.text import Vocabulary
from fineclip.text.exemplars import Exemplar
from fineclip.text.vocabulary import Category
from fineclip.visualization import undrawable
from segmentation.inference import load_segmenter
from segmentation.modeling import build_segmenter

CONFIG = "configs/segmentation/scenes_vit-ti-8.yaml"
SMALL = ["MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION", "[4, 4]"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The network of the config, untrained."""
    torch.manual_seed(0)
    model = build_segmenter(
        "ViT-Ti-8-scenes",
        train_classes=["thing"],
        grid=(4, 4),
        hidden_dim=16,
        num_heads=2,
        num_layers=1,
        window_size=8,
        decoder_dims=(16, 16),
        decoder_guidance_dims=(32, 16),
        decoder_guidance_proj_dims=(8, 4),
        text_guidance_proj_dim=32,
        appearance_guidance_proj_dim=32,
        pad_length=0,
        templates="plain",
    )
    file = tmp_path_factory.mktemp("weights") / "model_final.pth"
    torch.save({"model": model.state_dict(), "iteration": 3}, file)
    return file


def segment(run_tool, weights, *args):
    pytest.importorskip("detectron2")
    return run_tool(
        "segment.py", *args, "--config-file", CONFIG, "--weights", weights, "--options", *SMALL
    )


def test_pixels_are_named_and_drawn(run_tool, weights, scenes, tmp_path):
    images = sorted((scenes / "val").iterdir())[:2]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(images[0].read_bytes()[:300])
    names = ["red ring", "wooden floor", "zebra"]
    done = segment(
        run_tool, weights, images[0], broken, images[1], "--vocabulary", *names, "--out", tmp_path
    )
    # The other images are done all the same.
    assert done.returncode == 2
    assert f"error: {broken}: cannot be decoded" in done.stderr
    found = json.loads((tmp_path / "segmentation.json").read_text())
    assert found["names"] == {"0": "red ring", "1": "wooden floor", "2": "zebra"}
    assert [entry["file_name"] for entry in found["images"]] == [file.name for file in images]
    for entry, number, file in zip(found["images"], (1, 3), images, strict=True):
        labels = Image.open(tmp_path / entry["label_map"])
        assert labels.mode == "P" and labels.size == Image.open(file).size
        shares = {str(i): (np.asarray(labels) == i).mean() for i in np.unique(labels)}
        assert entry["shares"] == pytest.approx(shares, abs=1e-6)
        overlay = Image.open(tmp_path / f"{number:04d}_{file.stem}.png")
        assert overlay.width == 512 < overlay.height  # enlarged, and a legend below


def test_classes_by_pictures(run_tool, weights, scenes, tmp_path):
    """Where a class by pictures alone is asked for twice, both have the same probability."""
    image, other = sorted((scenes / "val").iterdir())[:2]
    done = segment(
        *(run_tool, weights, image, "--vocabulary", "red ring", "--out", tmp_path),
        *("--exemplar", f"my part={other}@4,8,20,30"),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "segmentation.json").read_text())
    assert found["names"] == {"0": "red ring", "1": "my part"}
    segmenter = load_segmenter(weights, config_file=CONFIG, options=SMALL)
    text = segmenter.model.sem_seg_head.predictor.text
    words = text(["red ring", "my part"])
    part = Category("my part", exemplars=(Exemplar(other, (4, 8, 20, 30)),), exemplar_weight=1)
    segmenter.use_exemplars(Vocabulary("v", (Category("red ring"), part)))
    features = text(["red ring", "my part"])
    assert torch.equal(features[0], words[0]) and not torch.allclose(features[1], words[1])
    labels, _ = segmenter.segment(read_image(image), ["red ring", "my part"])
    assert found["images"][0]["shares"] == pytest.approx(
        {str(i): (labels == i).mean() for i in np.unique(labels)}, abs=1e-6
    )
    # Seen as the network sees the places of an image that needs no padding.
    region, dense = segmenter.encode_region(read_image(other), torch.tensor([0.0, 0, 1, 1]))
    pixels = segmenter._resized(read_image(other))
    wanted = segmenter.model.sem_seg_head.predictor.features(segmenter.model.prepare([pixels]))
    torch.testing.assert_close(dense, F.normalize(wanted.dense[0], dim=0), atol=1e-4, rtol=0)
    torch.testing.assert_close(region, F.normalize(dense.mean(dim=(1, 2)), dim=0))
    segmenter.use_exemplars(Vocabulary("v", (Category("red ring"),)))
    assert torch.equal(text(["red ring", "my part"]), words)


def test_pixels_that_are_none_of_the_names_and_scores(run_tool, weights, scenes, tmp_path):
    image = sorted((scenes / "val").iterdir())[0]
    given = [image, "--vocabulary", "red ring", "zebra", "--scores", "--opacity", 0.8]
    for below, out in ((0, tmp_path / "all"), (1, tmp_path / "none")):
        done = segment(run_tool, weights, *given, "--none-below", below, "--out", out)
        assert done.returncode == 0, done.stderr
    every, none = (
        json.loads((tmp_path / name / "segmentation.json").read_text()) for name in ("all", "none")
    )
    assert "2" not in every["names"] and none["names"]["2"] == "none of these"
    assert none["images"][0]["shares"] == {"2": 1.0}
    scores = np.asarray(Image.open(tmp_path / "all" / every["images"][0]["score_map"]))
    assert scores.dtype == np.uint8 and scores.shape == Image.open(image).size[::-1]
    assert 0 < scores.max() <= 255


def test_the_config_lies_beside_the_weights(run_tool, weights, scenes, tmp_path):
    """As a training leaves both; its work dir stands for them."""
    pytest.importorskip("detectron2")
    from segmentation.engine import load_config

    shutil.copy(weights, tmp_path)
    (tmp_path / "config.yaml").write_text(load_config(CONFIG, SMALL).dump())
    (tmp_path / "last_checkpoint").write_text(weights.name)
    image, out = sorted((scenes / "val").iterdir())[0], tmp_path / "out"
    for given in (tmp_path, tmp_path / weights.name):
        command = ["--vocabulary", "red ring", "zebra", image, "--weights", given, "--out", out]
        done = run_tool("segment.py", *command)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"1 images segmented into 2 names: {out}\n"
        assert json.loads((out / "segmentation.json").read_text())["names"]["1"] == "zebra"
    from segmentation.inference import draw_segments, load_segmenter

    segmenter = load_segmenter(tmp_path, config_file=tmp_path / "config.yaml")
    drawn = draw_segments(segmenter, read_image(image), ["red ring", "zebra"])
    written = Image.open(out / f"0001_{image.stem}.png")
    assert np.array_equal(np.asarray(drawn), np.asarray(written))


def test_more_than_255_names_need_16_bit(run_tool, weights, scenes, tmp_path):
    image = sorted((scenes / "val").iterdir())[0]
    done = segment(
        run_tool, weights, image, "--vocabulary-file", "ade847", "--out", tmp_path / "out"
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out/segmentation.json").read_text())
    assert len(found["names"]) == 847
    labels = np.asarray(Image.open(tmp_path / "out" / found["images"][0]["label_map"]))
    assert labels.dtype == np.uint16 and labels.max() < 847


@pytest.mark.parametrize(
    ("images", "names", "message"),
    [
        ("empty", ["--vocabulary", "a ring"], "holds no images"),
        ("missing.jpg", ["--vocabulary", "a ring"], "missing.jpg does not exist"),
        (".", ["--vocabulary-file", "no_such_list"], "unknown vocabulary 'no_such_list'"),
        ("image.png", ["--vocabulary", "a ring"], "nowhere.pth does not exist"),
    ],
)
def test_bad_input(run_tool, tmp_path, images, names, message):
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    args = [tmp_path / images, *names, "--out", tmp_path / "out", "--weights", "nowhere.pth"]
    done = run_tool("segment.py", *args)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and message in last
    assert not (tmp_path / "out").exists()


def test_detectron2_is_needed_for_a_config_alone(run_tool, tmp_path, weights, scenes):
    """Without it the recipes' network is built, and the weights of another are refused."""
    image = sorted((scenes / "val").iterdir())[0]
    arguments = [image, "--vocabulary", "ring", "--weights", weights, "--out", tmp_path / "out"]
    with absent("detectron2"):
        runs = [
            run_tool("segment.py", *arguments, *case)
            for case in (["--config-file", CONFIG], ["--model", "ViT-Ti-8-scenes"])
        ]
    assert [done.returncode for done in runs] == [2, 2]
    config, model = (done.stderr for done in runs)
    assert "configurations are detectron2's" in config
    assert "does not fit the segmenter" in model


@pytest.mark.parametrize("tool", ["segment.py", "detect.py"])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["coco"], "--vocabulary-file coco"),
        (["cat", "dog", "Cat"], "name 1, 'cat', and name 3, 'Cat', read the same"),
        (["cat", "background"], "name 2: 'background' is no class"),
        (["cat", ""], "name 2: the name '' is empty"),
        (["cat,dog"], "names stand apart, without commas: --vocabulary 'cat' 'dog'"),
        (["a cat,", "dog"], "names stand apart, without commas: --vocabulary 'a cat' 'dog'"),
        (["names.txt"], "names.txt is a file; write --vocabulary-file"),
    ],
)
def test_names_that_were_meant_otherwise(run_tool, tmp_path, tool, names, message):
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    names = [str(tmp_path / name) if name == "names.txt" else name for name in names]
    done = run_tool(tool, tmp_path / "image.png", "--vocabulary", *names, "--out", tmp_path / "out")
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and message in last


def test_names_from_a_text_file_are_drawn_in_their_script(run_tool, weights, scenes, tmp_path):
    image = sorted((scenes / "val").iterdir())[0]
    file = tmp_path / "names.txt"
    file.write_text("красное кольцо\n# no name\n\n猫\ntable\n", encoding="utf-8-sig")
    done = segment(run_tool, weights, image, "--vocabulary-file", file, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out/segmentation.json").read_text())
    assert list(found["names"].values()) == ["красное кольцо", "猫", "table"]
    notes = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert len(notes) == (1 if undrawable(["猫"]) else 0)
