"""Data of one's own, made from scenes: what is labelled, and what the files say."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fineclip.annotations import read_boxes
from fineclip.datasets.description import read_description
from fineclip.datasets.label_maps import read_indices
from fineclip.scenes import THING_CATEGORIES, sample_scene
from fineclip.scenes.own_shapes import make_own_shapes
from fineclip.scenes.shapes import OWN_SHAPES


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "data"
    return folder, make_own_shapes(folder, images=6, val_images=2, size=48)


def test_boxes_and_maps_show_the_same_objects(own):
    folder, statistics = own
    data = read_description(folder)
    assert data.vocabulary.names == OWN_SHAPES
    for split, count in (("train", 6), ("val", 2)):
        files = data.require(split, "annotations", "masks", "captions", "region_captions")
        boxes, report = read_boxes(files.annotations)
        assert report.verdict == "clean"
        assert len(boxes["images"]) == count == statistics[split]["images"]
        assert len(boxes["annotations"]) == sum(statistics[split]["boxes"].values())
        for image in boxes["images"]:
            labels = read_indices(files.masks / image["file_name"].replace(".jpg", ".png"))
            assert labels.shape == Image.open(files.images / image["file_name"]).size
            of_image = [a for a in boxes["annotations"] if a["image_id"] == image["id"]]
            assert {a["category_id"] - 1 for a in of_image} == set(np.unique(labels)) - {255}
            assert sum(a["area"] for a in of_image) == (labels != 255).sum()


def test_things_of_the_scenes_are_there_and_not_labelled(own):
    folder, statistics = own
    captions = read_description(folder).splits["train"].captions.read_text()
    assert any(category.name in captions for category in THING_CATEGORIES)
    assert any(shape in captions for shape in OWN_SHAPES)
    assert all(statistics["train"]["boxes"].values())


def test_scenes_show_none_of_them():
    kinds = {o.category.shape for i in range(50) for o in sample_scene(0, "train", i).objects}
    assert kinds.isdisjoint(OWN_SHAPES)


def test_the_same_is_made_once_and_other_data_are_kept(own, tmp_path):
    folder, statistics = own
    before = (folder / "data.yaml").stat().st_mtime_ns
    assert make_own_shapes(folder, images=6, val_images=2, size=48) == statistics
    assert (folder / "data.yaml").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match=r"holds something else.*--overwrite"):
        make_own_shapes(folder, images=1, size=48)
    (tmp_path / "mine.txt").write_text("dear")
    with pytest.raises(FileExistsError, match=r"choose another folder$"):
        make_own_shapes(tmp_path, images=1, size=48, overwrite=True)
