"""Data sets that register themselves, and what a registration leaves out."""

import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("detectron2")

from detectron2.data import DatasetCatalog, MetadataCatalog

from segmentation.data.described import register_described, run_registrations
from segmentation.data.registered import RegisteredSet, registered_set

SPLITS = """
train: {images: train, masks: maps}
val: {images: val, masks: maps}
test: {images: val}
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("train", "val", "maps"):
        (tmp_path / name).mkdir()
    for number, suffix in enumerate(("jpg", "JPEG", "png", "webp")):
        for split in ("train", "val"):
            Image.new("RGB", (4, 3)).save(tmp_path / split / f"{number}.{suffix}")
        labels = np.full((3, 4), number % 3, np.uint8)
        Image.fromarray(labels).save(tmp_path / f"maps/{number}.png")
    yield tmp_path
    for name in [name for name in DatasetCatalog.list() if name.startswith("own_")]:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


def describe(folder, text, name="own_parts"):
    file = folder / "data.yaml"
    file.write_text(f"name: {name}\n{text}{SPLITS}")
    return file


def test_splits_with_label_maps_are_registered(folder):
    file = describe(folder, "classes: [a, b: [c, d], e]\nignore_label: 7")
    register_described([file])
    assert "own_parts_test_sem_seg" not in DatasetCatalog
    found = registered_set("own_parts_val_sem_seg")
    assert found == RegisteredSet(
        "own_parts_val_sem_seg", ("a", "b", "e"), ("a", "b, c, d", "e"), 7
    )
    records = DatasetCatalog.get("own_parts_val_sem_seg")
    assert [r["file_name"].rpartition(".")[2] for r in records] == ["jpg", "JPEG", "png", "webp"]
    assert all(r["sem_seg_file_name"].endswith(".png") for r in records)
    assert MetadataCatalog.get("own_parts_val_sem_seg").evaluator_type == "sem_seg"
    # A process that reads the file again, perhaps changed, knows what it says now.
    register_described([describe(folder, "classes: [x, y, z]")])
    assert registered_set("own_parts_val_sem_seg").class_names == ("x", "y", "z")


def test_training_does_not_see_novel_classes(folder):
    register_described([describe(folder, "classes: [a, b, c]\nnovel: [b]")])
    train, val = (registered_set(f"own_parts_{split}_sem_seg") for split in ("train", "val"))
    assert train.class_names == ("a", "c") and val.class_names == ("a", "b", "c")
    assert val.seen == train.seen == ("a", "c")
    records = DatasetCatalog.get("own_parts_train_sem_seg")
    assert all(record["label_map"] == [0, 255, 1] for record in records)
    assert "label_map" not in DatasetCatalog.get("own_parts_val_sem_seg")[0]


def test_images_that_share_a_label_map(folder):
    Image.new("RGB", (4, 3)).save(folder / "val/0.bmp")
    register_described([describe(folder, "classes: [a, b, c]")])
    with pytest.raises(FileNotFoundError, match=r"0\.bmp and .*0\.jpg share the label map of '0'"):
        DatasetCatalog.get("own_parts_val_sem_seg")


def test_the_tutorials_registration_is_enough():
    DatasetCatalog.register("own_tutorial", list)
    with pytest.raises(ValueError, match=r"set\(stuff_classes="):
        registered_set("own_tutorial")
    MetadataCatalog.get("own_tutorial").set(stuff_classes=["a", "b"])
    found = registered_set("own_tutorial")
    assert (found.prompt_names, found.ignore_label, found.seen) == (("a", "b"), 255, None)
    DatasetCatalog.remove("own_tutorial")
    MetadataCatalog.pop("own_tutorial")
    with pytest.raises(ValueError, match=r"'own_tutorial' is not registered.*--register"):
        registered_set("own_tutorial", "DATASETS.TEST")


def test_programs_that_register(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    program = tmp_path / "mine.py"
    (tmp_path / "beside_mine.py").write_text("from detectron2.data import DatasetCatalog\n")
    program.write_text(
        "from beside_mine import DatasetCatalog\n"
        "DatasetCatalog.register('own_program', lambda: [])\n"
        "if __name__ == '__main__':\n    raise SystemExit(3)\n"
    )
    run_registrations([program])
    run_registrations([program])  # detectron2 would refuse to register a name again
    assert "own_program" in DatasetCatalog
    DatasetCatalog.remove("own_program")
    (tmp_path / "wrong.py").write_text("\nimport json\njson.loads('{')\n")
    with pytest.raises(ValueError, match=r"wrong\.py, line 3: JSONDecodeError: Expecting"):
        run_registrations([tmp_path / "wrong.py"])
    (tmp_path / "worse.py").write_text("x = (\n")
    with pytest.raises(ValueError, match=r"worse\.py, line 1: SyntaxError"):
        run_registrations([tmp_path / "worse.py"])
    with pytest.raises(FileNotFoundError, match=r"--register: .*none\.py does not exist"):
        run_registrations([tmp_path / "none.py"])
