"""A photograph is asked about words, through the command line."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fineclip.looking import trained_model
from fineclip.models import DenseCLIP

MODEL = "ViT-Ti-8-scenes"
WORDS = ["red ring", "wooden floor", "100 $ кот"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "clip.pt"
    torch.save(DenseCLIP.create(MODEL).clip.state_dict(), file)
    return file


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """Taller than wide once it is turned by its EXIF orientation."""
    exif, file = Image.Exif(), tmp_path_factory.mktemp("photos") / "a photo.jpg"
    exif[0x112] = 6
    pixels = np.random.default_rng(0).integers(0, 255, (48, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, exif=exif)
    return file


def test_photographs_are_looked_at(run_tool, weights, photo, tmp_path):
    boxes, out = tmp_path / "boxes.json", tmp_path / "out"
    boxes.write_text(json.dumps({photo.name: [[0, 0, 48, 40], [10, 40, 20, 30]]}))
    done = run_tool(
        *("look.py", photo, "--words", *WORDS, "--model", MODEL, "--pretrained", weights),
        *("--boxes", boxes, "--top", 2, "--out", out, "--keep-aspect", "--amp", "bf16"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"1 photographs looked at: {out}" in done.stdout
    found = json.loads((out / "0001_a photo.json").read_text("utf-8"))
    assert (found["file_name"], found["width"], found["height"]) == (photo.name, 48, 80)
    assert {entry["word"] for entry in found["words"]} == set(WORDS)
    scores = [entry["score"] for entry in found["words"]]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=1e-4)
    assert [region["bbox"] for region in found["regions"]] == [[0, 0, 48, 40], [10, 40, 20, 30]]
    assert all(len(region["words"]) == 2 for region in found["regions"])
    # Explained, and drawn, are the two best.
    assert [sorted(entry["peaks"]) for entry in found["words"]] == [
        *[["dense", "relevance"]] * 2,
        ["dense"],
    ]
    assert all(
        0 < x < 48 and 0 < y < 80 for entry in found["words"] for x, y in entry["peaks"].values()
    )
    picture = Image.open(out / "0001_a photo.png")
    assert picture.mode == "RGB" and picture.width > 900
    assert len(picture.getcolors(1 << 24)) > 1000  # something is drawn


def test_the_likeliest_of_a_vocabulary(run_tool, weights, photo, tmp_path):
    """The model's name may come from the config that its training has left."""
    config = {"format": "fineclip-config", "version": 1, "name": "scenes"}
    folder = tmp_path / "training"
    folder.mkdir()
    (folder / "clip.pt").write_bytes(weights.read_bytes())
    (folder / "plain_config.json").write_text(
        json.dumps({**config, "config": {"model_name": MODEL}})
    )
    (folder / "last_checkpoint").write_text("clip.pt")
    assert trained_model(folder / "clip.pt") == MODEL
    assert trained_model(weights) is None
    done = run_tool(
        *("look.py", photo, "--weights", folder, "--vocabulary-file", "voc20", "--templates"),
        *("name", "--no-relevance", "--out", tmp_path),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "0001_a photo.json").read_text())
    assert len(found["words"]) == 20 and len(found["regions"]) == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--words", "cat", "cat"], "--words: name 1 and name 2 are both 'cat'"),
        (["--words", "cat"], "--model: name the open_clip model"),
        (["--words", "cat", "--model", "ViT-Ti-8-scene"], "--model: unknown model"),
        (["--words", "cat", "--model", MODEL, "--amp", "fp16"], "--amp fp16 needs a GPU"),
        (["--words", "cat", "--weights", "no/such.pt"], "no/such.pt does not exist"),
        (["--words", "cat", "--boxes", "b.json", "--grid", "2"], "not allowed with"),
        (["--words", "cat", "--boxes", "none.json"], "boxes: none.json does not exist"),
        (["--vocabulary-file", "no_such_list"], "unknown vocabulary 'no_such_list'"),
    ],
)
def test_bad_input(run_tool, weights, photo, tmp_path, arguments, message):
    out = tmp_path / "out"
    given = [] if "--weights" in arguments else ["--weights", weights]
    done = run_tool("look.py", photo, *arguments, *given, "--out", out)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and message in last
    assert not out.exists()


def test_images_of_a_described_data_set(scenes, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "tools")
    look = importlib.import_module("look")
    args = look.parse_args(["--data", str(scenes)])
    look.take_described(args)
    assert args.images == [scenes / f"val/{number:012d}.jpg" for number in (1, 2, 3, 4)]
    assert args.boxes == scenes / "annotations/instances_val.json"
    assert args.vocabulary_file == str(scenes / "data.yaml")
    # What is said stands above it.
    args = look.parse_args(["a.jpg", "--data", str(scenes), "--words", "x", "--grid", "2"])
    look.take_described(args)
    assert (args.images, args.boxes, args.vocabulary_file) == (["a.jpg"], None, None)


def test_a_resnet_has_no_relevance(run_tool, photo, tmp_path):
    torch.manual_seed(0)
    file = tmp_path / "resnet.pt"
    torch.save(DenseCLIP.create("RN-Ti").clip.state_dict(), file)
    command = ["look.py", photo, "--words", "cat", "--model", "RN-Ti", "--weights", file]
    done = run_tool(*command, "--grid", 1, "--out", tmp_path)
    assert done.returncode == 0
    assert done.stderr.startswith("note: no relevance maps") and done.stderr.count("\n") == 1
    found = json.loads((tmp_path / "0001_a photo.json").read_text())
    assert found["words"][0]["peaks"].keys() == {"dense"} and len(found["regions"]) == 1


def test_costs_of_the_views(run_tool, tmp_path):
    out = tmp_path / "costs.json"
    done = run_tool(
        *("benchmark_look.py", "--model", MODEL, "--image-size", 64, "--words", 1),
        *("--rounds", 1, "--out", out),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 6 and all(row["seconds_per_step"] > 0 for row in rows)
    assert done.stdout.count("\n| ") == 7 and "| relevance map of a word |" in done.stdout
