"""Label maps without anything to learn or to score are told before anything begins."""

import numpy as np
import pytest
from PIL import Image

from segmentation.data import label_check
from segmentation.data.label_check import check_labels

CLASSES = ["wall", "cat", "dog"]


@pytest.fixture
def records(tmp_path):
    def make(*maps, **more):
        found = []
        for i, values in enumerate(maps):
            Image.fromarray(np.uint8(values)).save(tmp_path / f"{i}.png")
            found.append({"sem_seg_file_name": str(tmp_path / f"{i}.png"), **more})
        return found

    return make


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(
    ("values", "more"),
    [([[255, 255]], {}), ([[1, 2]], {"label_map": (0, 255, 255)})],
    ids=["ignored", "mapped to nothing"],
)
def test_nothing_labelled(records, train, values, more):
    with pytest.raises(ValueError, match=r"data set mine: no pixel of its 3 label maps.*0\.png"):
        check_labels("mine", records(*[values] * 3, **more), CLASSES, 255, train=train)


def test_a_binary_mask_has_one_class(records):
    masks = records(*[[[0, 255], [255, 0]]] * 3)
    with pytest.raises(ValueError, match=r"of one class, 'wall'.*a mask of 0 and 255 must become"):
        check_labels("mine", masks, CLASSES[:2], 255, train=True)
    check_labels("mine", masks, CLASSES[:2], 255, train=False)
    check_labels("mine", masks, CLASSES[:1], 255, train=True)  # the one class that there is


def test_classes_that_never_occur_are_mentioned(records, caplog):
    check_labels("mine", records([[0, 1]], [[1, 255]]), CLASSES, 255, train=True)
    assert "data set mine: 1 of its 3 classes never occur: 'dog'" in caplog.text
    caplog.clear()
    check_labels("mine", records([[0, 1]], [[2, 255]]), CLASSES, 255, train=True)
    assert caplog.text == ""


def test_of_large_sets_some_are_read(records, caplog, monkeypatch):
    monkeypatch.setattr(label_check, "_LIMIT", 4)
    many = records(*[[[0, 255]]] * 8, [[1, 1]], [[0, 0]])
    many[1]["sem_seg_file_name"] = "never looked at"
    # A rare class may be in the others.
    check_labels("mine", many, CLASSES, 255, train=True)
    assert "of its 4 label maps (of 10) are of one class" in caplog.text
    with pytest.raises(ValueError, match=r"no pixel of its 4 label maps \(of 10\)"):
        check_labels("mine", records(*[[[255]]] * 10), CLASSES, 255, train=True)
