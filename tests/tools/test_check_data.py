"""tools/check_data.py: its report, exit codes and what it writes."""

import json

import damaged
import pytest
from PIL import Image


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "val").mkdir()
    for name in (11, 12, 13):
        Image.new("RGB", (damaged.WIDTH, damaged.HEIGHT)).save(tmp_path / "val" / f"{name}.jpg")
    damaged.write(tmp_path / "boxes.json", damaged.annotations())
    captions = [{"image_id": i, "caption": "a picture"} for i in (11, 12, 13)]
    write(tmp_path, "captions.json", {"annotations": captions})
    write(tmp_path, "regions.json", {"501": "a cat", "12_10_10_50_50.jpg": "another"})
    panoptic = {**damaged.annotations(), "annotations": []}
    write(tmp_path, "panoptic.json", panoptic)
    return tmp_path


def write(folder, name, data):
    (folder / name).write_text(json.dumps(data))


def everything(folder):
    return (
        *("--annotations", folder / "boxes.json", "--image-root", folder),
        *("--captions", folder / "captions.json", "--region-captions", folder / "regions.json"),
        *("--panoptic", folder / "panoptic.json", "--json", folder / "report.json"),
    )


def test_clean(run_tool, folder):
    done = run_tool("check_data.py", *everything(folder))
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{folder}/boxes.json: CLEAN (3 images, 8 boxes, 8 masks, 3 categories)"
    assert lines[-1] == "verdict: clean"
    assert "  noted   6 x boxes without region caption" in lines
    report = json.loads((folder / "report.json").read_text())
    assert report["verdict"] == "clean"
    assert [part["verdict"] for part in report["reports"]] == ["clean"] * 4


def test_mended_aloud_and_written(run_tool, folder):
    change = damaged.MENDED["ids repeated"][0]
    damaged.write(folder / "boxes.json", damaged.damage(change))
    write(folder, "regions.json", {"12_10_10_50_50.jpg": "another"})
    done = run_tool("check_data.py", *everything(folder), "--fix", folder / "fixed.json")
    assert done.returncode == 0
    assert "mended  8 x annotation ids repeated, all renumbered from 1" in done.stdout
    assert done.stdout.endswith(f"wrote {folder}/fixed.json\nverdict: mended\n")
    fixed = json.loads((folder / "fixed.json").read_text())
    assert [a["id"] for a in fixed["annotations"]] == list(range(1, 9))
    again = run_tool("check_data.py", "--annotations", folder / "fixed.json")
    assert again.stdout.endswith("verdict: clean\n")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("boxes.json", damaged.damage(damaged.REFUSED["corners"][0]), "fit as corners"),
        ("boxes.json", "{", "not valid JSON"),
        ("captions.json", {"annotations": [{"image_id": 1, "caption": "x"}]}, "none is of an"),
        ("captions.json", {"annotations": 3}, "annotations: expected a list, got int"),
        ("regions.json", {"1": "x"}, "none of the 1 keys"),
        ("regions.json", {"501": 1}, "'501' must map to a string"),
        ("panoptic.json", damaged.annotations(), "no 'segments_info'"),
    ],
)
def test_refused(run_tool, folder, file, content, words):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / file).write_text(text)
    done = run_tool("check_data.py", *everything(folder), "--fix", folder / "fixed.json")
    assert done.returncode == 2
    assert words in done.stdout
    assert f"{folder}/{file}" in done.stdout
    assert done.stdout.endswith("verdict: refused\n")
    assert json.loads((folder / "report.json").read_text())["verdict"] == "refused"
    assert (folder / "fixed.json").exists() == (file != "boxes.json")


def test_images_are_looked_at(run_tool, folder):
    (folder / "val" / "11.jpg").unlink()
    (folder / "val" / "12.jpg").write_bytes(b"not an image")
    turned = Image.new("RGB", (damaged.HEIGHT, damaged.WIDTH))
    turned.getexif()[274] = 6  # shown a quarter turn to the right, as phones write it
    turned.save(folder / "val" / "13.jpg", exif=turned.getexif())
    arguments = ("--annotations", folder / "boxes.json", "--image-root", folder)
    done = run_tool("check_data.py", *arguments)
    assert done.returncode == 0
    assert "2 x images that are missing or cannot be opened" in done.stdout
    assert "another size" not in done.stdout
    Image.new("RGB", (7, 5)).save(folder / "val" / "13.jpg")
    done = run_tool("check_data.py", *arguments)
    assert "13.jpg is 7 x 5, stated 120 x 90" in done.stdout
    (folder / "val" / "13.jpg").unlink()
    done = run_tool("check_data.py", *arguments)
    assert done.returncode == 2
    assert "none of the 3 images is in" in done.stdout


def test_a_vocabulary_that_lacks_categories(run_tool, folder):
    write(folder, "words.json", ["cat", "dog", "owl", "yak"])
    arguments = ("--annotations", folder / "boxes.json", "--vocabulary")
    done = run_tool("check_data.py", *arguments, folder / "words.json")
    assert done.returncode == 0
    assert "classes of 'words' that the file lacks: 'yak'" in done.stdout
    done = run_tool("check_data.py", *arguments, "coco")
    assert done.returncode == 2
    assert "category 5, 'owl'" in done.stdout


def test_what_is_not_there(run_tool, folder):
    done = run_tool("check_data.py", "--annotations", folder / "no.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: --annotations: {folder}/no.json does not exist\n"


def test_all_of_a_described_data_set(run_tool, scenes, tmp_path):
    done = run_tool("check_data.py", "--data", scenes)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for split in ("train", "val"):
        for name in ("instances", "captions"):
            assert any(f"{name}_{split}.json: CLEAN" in line for line in lines)
        assert f"{scenes}/annotations/semantic_{split}: CLEAN" in lines
    assert any("classes that no pixel has: " in line for line in lines)
    (tmp_path / "maps").mkdir()
    Image.new("RGB", (4, 3)).save(tmp_path / "a.jpg")
    Image.new("RGB", (4, 3)).save(tmp_path / "b.webp")
    Image.new("L", (4, 3), 9).save(tmp_path / "maps/a.png")
    Image.new("L", (3, 4), 1).save(tmp_path / "maps/b.png")
    (tmp_path / "data.yaml").write_text("classes: [x, y]\ntrain: {images: ., masks: maps}")
    done = run_tool("check_data.py", "--data", tmp_path)
    assert done.returncode == 2
    assert "maps/a.png holds 9, which is neither one of the 2 classes" in done.stdout
    assert "maps/b.png is 3 x 4, its image 4 x 3" in done.stdout
    done = run_tool("check_data.py", "--data", tmp_path, "--image-root", tmp_path)
    assert done.returncode == 2 and "--image-root goes with --annotations" in done.stderr
