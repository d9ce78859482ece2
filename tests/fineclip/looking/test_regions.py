"""Regions that a photograph is asked about."""

import json
from pathlib import Path

import pytest
from PIL import Image

from fineclip.looking import boxes_of_file, cells_of_grid

PHOTO, IMAGE = Path("photos/a.jpg"), Image.new("RGB", (100, 60))


def test_cells_of_a_grid():
    assert cells_of_grid(2)(PHOTO, IMAGE).tolist() == [
        *([0, 0, 50, 30], [50, 0, 100, 30]),
        *([0, 30, 50, 60], [50, 30, 100, 60]),
    ]


COCO = {
    "images": [{"id": 7, "file_name": "val/a.jpg", "width": 100, "height": 60}],
    "annotations": [{"id": 1, "image_id": 7, "bbox": [10, 20, 30, 15]}],
}
RESULTS = [{"file_name": "a.jpg", "bbox": [10, 20, 30, 15], "score": 0.5}]
BY_NAME = {"a.jpg": [[10, 20, 30, 15]], "b.jpg": []}


@pytest.mark.parametrize("content", [COCO, RESULTS, BY_NAME])
def test_boxes_of_a_file(tmp_path, content):
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(content))
    found = boxes_of_file(file, [PHOTO])(PHOTO, IMAGE)
    assert found.tolist() == [[10, 20, 40, 35]]
    if content is BY_NAME:
        assert boxes_of_file(file, [Path("b.jpg")])(Path("b.jpg"), IMAGE).shape == (0, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"b.jpg": []}, "nothing for a.jpg"),
        ({"a.jpg": [[1, 2, 3]]}, "a.jpg: expected x, y, width, height"),
        ({"a.jpg": [[1, 2, 0, 3]]}, "both sides above 0"),
        ({"a.jpg": "x"}, "a.jpg: expected a list of boxes"),
        ({"a.jpg": [[200, 2, 5, 5]]}, "box 1 lies outside the photograph of 100 x 60"),
        ([{"bbox": [1, 2, 3, 4]}], "entry 0: expected an object with 'file_name'"),
        (3, "expected COCO annotations, a list"),
        ({**COCO, "images": [{**COCO["images"][0], "width": 60, "height": 100}]}, "60 x 100"),
    ],
)
def test_boxes_that_do_not_fit(tmp_path, content, message):
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        boxes_of_file(file, [PHOTO])(PHOTO, IMAGE)
