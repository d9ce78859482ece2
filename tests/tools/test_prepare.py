"""The command that prepares data sets: its tasks, exit codes and what they print."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tool_runs import absent

from fineclip.text import load_vocabulary

ROOT = Path(__file__).parents[2]
LABEL_MAPS = {
    "ade20k-150": "ADEChallengeData2016/annotations/validation",
    "ade20k-847": "ADE20K_2021_17_01/images/ADE/validation",
    "coco-stuff": "coco-stuff/annotations/train2017",
    "pascal-context": "VOCdevkit/VOC2010/trainval_merged.json",
    "voc20": "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt",
}


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8(values)).save(path)


@pytest.mark.parametrize("task", LABEL_MAPS)
def test_missing_downloads_are_named(run_tool, tmp_path, task):
    done = run_tool("prepare.py", task, "--root", tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and str(tmp_path / LABEL_MAPS[task]) in line
    assert "http" in line
    assert list(tmp_path.iterdir()) == []


def test_parts_can_be_chosen(run_tool, tmp_path):
    for split in ("train2017", "val2017"):
        save(tmp_path / f"coco-stuff/annotations/{split}/0.png", [[0, 12]])
    done = run_tool("prepare.py", "coco-stuff", "--root", tmp_path, "--splits", "val2017")
    assert done.returncode == 0, done.stderr
    made = tmp_path / "coco-stuff/annotations_detectron2"
    assert done.stdout == f"{made / 'val2017'}: 1 label maps written, 0 kept\n"
    assert not (made / "train2017").exists()
    folder = tmp_path / "VOCdevkit/VOC2010"
    folder.mkdir(parents=True)
    image = {"image_id": 1, "file_name": "a.jpg", "height": 2, "width": 3, "phase": "val"}
    (folder / "trainval_merged.json").write_text(
        json.dumps({"images": [image], "annos_segmentation": []})
    )
    done = run_tool("prepare.py", "pascal-context", "--root", tmp_path, "--classes", 59)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("annotations_detectron2/pc59_val: 1 label maps written, 0 kept\n")


def test_the_catalog_reads_what_is_made(run_tool, tmp_path):
    pytest.importorskip("detectron2")
    from detectron2.data import DatasetCatalog

    from segmentation.data import register_datasets

    folder = tmp_path / "VOCdevkit/VOC2012"
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    (folder / "ImageSets/Segmentation/val.txt").write_text("a\nb\n")
    save(folder / "SegmentationClassAug/a.png", [[0, 1, 20, 255]])
    save(folder / "SegmentationClassAug/b.png", [[0, 255]])
    for name in ("a", "b", "of-another-part"):
        save(folder / f"JPEGImages/{name}.jpg", np.zeros((1, 4, 3)))
    done = run_tool("prepare.py", "voc20", "--root", tmp_path, "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert "1 label maps written, 0 kept, 1 images without a class left out" in done.stdout
    register_datasets(tmp_path)
    try:
        assert len(DatasetCatalog.get("voc_2012_test_sem_seg")) == 1
        assert len(DatasetCatalog.get("voc_2012_test_background_sem_seg")) == 2
    finally:
        register_datasets()


def test_ov_coco(run_tool, tmp_path):
    data = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 9, "height": 9}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25}
        ],
        "categories": [{"id": c.id, "name": c.name} for c in load_vocabulary("coco").categories],
    }
    (tmp_path / "instances_val2017.json").write_text(json.dumps(data))
    done = run_tool("prepare.py", "ov-coco", tmp_path, tmp_path / "out", "--splits", "val")
    assert done.returncode == 0, done.stderr
    assert "instances_val2017_ov.json: 1 images, 1 annotations" in done.stdout
    assert len(json.loads((tmp_path / "out/instances_val2017_ov.json").read_text())["images"]) == 1


@pytest.mark.parametrize("task", ["ov-coco", "ov-lvis"])
def test_missing_annotations(run_tool, tmp_path, task):
    done = run_tool("prepare.py", task, tmp_path, tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "does not exist" in done.stderr
    assert not (tmp_path / "out").exists()


def test_usage(run_tool, tmp_path):
    done = run_tool("prepare.py", "voc20", "--root", tmp_path, "--workers", 0)
    assert done.returncode == 2
    assert "--workers: expected an integer from 1 on" in done.stderr
    done = run_tool("prepare.py", "voc2012")
    assert done.returncode == 2
    for task in (*LABEL_MAPS, "ov-coco", "ov-lvis"):
        assert task in done.stderr
    done = run_tool("prepare.py", "voc20", "--help")
    assert done.returncode == 0
    # It says which files are needed.
    assert LABEL_MAPS["voc20"] in done.stdout and "http" in done.stdout


def test_a_minimal_environment_prepares(run_tool, tmp_path):
    """mmdet, detectron2 and what comes with them are absent there."""
    matrix = tmp_path / "VOCdevkit/VOC2010/trainval/a.mat"
    matrix.parent.mkdir(parents=True)
    matrix.touch()
    (matrix.parents[1] / "pascalcontext_val.txt").write_text("a")
    with absent("mmcv", "mmdet", "lvis", "detectron2", "scipy"):
        runs = [
            run_tool("prepare.py", *arguments)
            for arguments in (
                ("voc20", "--root", tmp_path),
                ("ov-lvis", tmp_path, tmp_path),
                ("pascal-context", "--classes", "459", "--root", tmp_path),
            )
        ]
    assert [done.returncode for done in runs] == [2, 2, 2]
    voc, lvis, context = (done.stderr for done in runs)
    assert "val.txt does not exist" in voc and "lvis_v1_train.json does not exist" in lvis
    assert "scipy" in context and "setup_env.sh" in context
