"""OV-COCO and OV-LVIS annotation files from public ones."""

import json

import pytest

from detection.datasets import prepare_ov_coco, prepare_ov_lvis
from fineclip.text import Vocabulary, load_vocabulary


def coco80():
    return [
        {"id": c.id, "name": c.name, "supercategory": "x"}
        for c in load_vocabulary("coco").categories
    ]


def annotation(index, image_id, category_id, iscrowd=0):
    return {
        "id": index,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [1, 1, 9, 9],
        "area": 81,
        "iscrowd": iscrowd,
    }


@pytest.fixture
def public(tmp_path):
    """person (1) is base, airplane (5) novel, bench (15) base, traffic light (10) neither."""
    data = {
        "info": {"year": 2017},
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": 9, "height": 9} for i in range(1, 7)
        ],
        "annotations": [
            annotation(1, 1, 1),
            annotation(2, 1, 5),
            annotation(3, 2, 5),
            annotation(4, 3, 10),
            annotation(5, 4, 15, iscrowd=1),
            annotation(6, 5, 10),
            annotation(7, 5, 1),
        ],
        "categories": coco80(),
    }
    folder = tmp_path / "annotations"
    folder.mkdir()
    for split in ("train", "val"):
        (folder / f"instances_{split}2017.json").write_text(json.dumps(data))
    return folder


def content(path):
    data = json.loads(path.read_text())
    return [image["id"] for image in data["images"]], [a["id"] for a in data["annotations"]]


def test_ov_coco(public, tmp_path):
    lines = []
    train, val = prepare_ov_coco(public, tmp_path / "new" / "out", report=lines.append)
    assert (train.name, val.name) == ("instances_train2017_base.json", "instances_val2017_ov.json")
    # base boxes with crowds, and the images that have one
    assert content(train) == ([1, 4, 5], [1, 5, 7])
    # base and novel boxes; image 3 shows neither, image 6 nothing at all
    assert content(val) == ([1, 2, 4, 5], [1, 2, 3, 5, 7])
    assert any("3 images, 3 annotations" in line for line in lines)
    for path in (train, val):
        vocabulary, expected = Vocabulary.from_coco(path), load_vocabulary("ov_coco")
        assert vocabulary.names == expected.names
        assert vocabulary.ids == expected.ids
        assert vocabulary.split == expected.split
    assert json.loads(train.read_text())["info"] == {"year": 2017}
    pytest.importorskip("mmdet")
    from detection.datasets import OpenVocabularyCocoDataset

    dataset = OpenVocabularyCocoDataset(
        vocabulary="ov_coco", ann_file=str(train), test_mode=True, pipeline=[]
    )
    assert len(dataset) == 3


def test_one_split_alone(public, tmp_path):
    (public / "instances_train2017.json").unlink()
    (written,) = prepare_ov_coco(public, tmp_path, ["val"])
    assert written.name == "instances_val2017_ov.json"
    with pytest.raises(ValueError, match="unknown split 'test'; expected train or val"):
        prepare_ov_coco(public, tmp_path, ["test"])


def test_nothing_is_written_if_a_file_is_missing(public, tmp_path):
    (public / "instances_val2017.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"instances_val2017\.json does not exist"):
        prepare_ov_coco(public, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.pop(0), r"categories: id 1 is missing, expected 'person'"),
        (lambda c: c[4].update(name="aeroplane"), "id 5 is 'aeroplane', expected 'airplane'"),
    ],
)
def test_other_categories_are_refused(public, tmp_path, change, message):
    file = public / "instances_train2017.json"
    data = json.loads(file.read_text())
    change(data["categories"])
    listed = {category["id"] for category in data["categories"]}
    data["annotations"] = [a for a in data["annotations"] if a["category_id"] in listed]
    file.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message):
        prepare_ov_coco(public, tmp_path / "out")


def lvis_data():
    frequencies = {1: "f", 2: "r", 3: "c"}
    return {
        "images": [
            {
                "id": i,
                "coco_url": f"x/{i}.jpg",
                "width": 9,
                "height": 9,
                "neg_category_ids": [2],
                "not_exhaustive_category_ids": [],
            }
            for i in (1, 2)
        ],
        "annotations": [annotation(1, 1, 1), annotation(2, 1, 2), annotation(3, 2, 2)],
        "categories": [
            {"id": i, "name": f"c{i}", "frequency": f, "image_count": 2}
            for i, f in frequencies.items()
        ],
    }


def test_ov_lvis(tmp_path):
    (tmp_path / "lvis_v1_train.json").write_text(json.dumps(lvis_data()))
    (written,) = prepare_ov_lvis(tmp_path, tmp_path / "out")
    assert written.name == "lvis_v1_train_base.json"
    assert content(written) == ([1, 2], [1])  # every image stays
    data = json.loads(written.read_text())
    assert [c["split"] for c in data["categories"]] == ["base", "novel", "base"]
    assert data["images"] == lvis_data()["images"]


def test_ov_lvis_needs_lvis(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"lvis_v1_train\.json does not exist"):
        prepare_ov_lvis(tmp_path, tmp_path)
    data = lvis_data()
    for category in data["categories"]:
        category["frequency"] = "f"
    (tmp_path / "lvis_v1_train.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="none has the frequency 'r'"):
        prepare_ov_lvis(tmp_path, tmp_path)
    assert not (tmp_path / "lvis_v1_train_base.json").exists()
