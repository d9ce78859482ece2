"""The command of the data engine."""

import json

import pytest


def test_shards_of_scenes(run_tool, scenes, tmp_path):
    files = scenes / "annotations"
    arguments = [
        *(scenes / "train", tmp_path / "out", "--coco", "--cfg-options", "min_box_area=16"),
        *("--annotations", files / "instances_train.json"),
        *("--captions", files / "captions_train.json", "--config", "configs/annotation/cc2.5m.py"),
        *("--proposer", "existing", "--captioner", "template", "--shard-range", "0:1"),
    ]
    done = run_tool("annotate_regions.py", *arguments)
    assert done.returncode == 2
    assert "no image is left, so there is nothing to train on: 12 x image has too" in done.stderr
    small = ("--cfg-options", "min_pixels=9")
    done = run_tool("annotate_regions.py", *arguments, "--overwrite", *small)
    assert done.returncode == 0, done.stderr
    assert f"12 of 12 images, 45 of 45 boxes: {tmp_path / 'out'}" in done.stdout
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"]["max_boxes"] == 20
    assert manifest["settings"]["min_box_area"] == 16
    assert len(json.loads((tmp_path / "out" / "proposals.json").read_text())["annotations"]) == 45
    done = run_tool("annotate_regions.py", *arguments, "--dry-run", "3", *small)
    assert done.returncode == 0 and "images kept" in done.stdout


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--shard-range", "3:3"], "expected A:B with A below B, got '3:3'"),
        (["--proposer", "yolo"], "proposer 'yolo': there is no kind 'yolo'; known: existing"),
        (["--annotations", "gone.json"], "--annotations: gone.json does not exist"),
        (["--cfg-options", "min_pixel=3"], "there is no 'min_pixel'; did you mean min_pixels?"),
        (["--config", "gone.py"], "config gone.py does not exist"),
    ],
)
def test_mistakes_are_one_line(run_tool, scenes, tmp_path, change, message):
    done = run_tool("annotate_regions.py", scenes / "train", tmp_path / "out", *change)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in done.stderr
