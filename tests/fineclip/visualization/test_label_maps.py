"""Label maps as pictures."""

import numpy as np
import pytest
from PIL import Image

from fineclip.visualization import (
    class_color,
    draw_label_map,
    label_maps,
    save_label_map,
    save_score_map,
)
from fineclip.visualization.lettering import lettering


def test_colours_are_distinct_and_fixed():
    colors = [class_color(index) for index in range(150)]
    assert len(set(colors)) == 150
    assert class_color(3) == colors[3]


def test_overlay_and_legend():
    labels = np.zeros((40, 60), dtype=np.int64)
    labels[:, 45:] = 2
    drawn = draw_label_map(Image.new("RGB", (60, 40)), labels, ["a", "b", "c"], opacity=1.0)
    assert drawn.width == 60 and drawn.height > 40
    assert drawn.getpixel((5, 5)) == class_color(0)
    assert drawn.getpixel((50, 5)) == class_color(2)  # beside its name
    legend = np.asarray(drawn)[40:].reshape(-1, 3)
    present = {tuple(map(int, color)) for color in legend}
    assert {class_color(0), class_color(2)} <= present and class_color(1) not in present
    half = draw_label_map(Image.new("RGB", (60, 40)), labels, ["a", "b", "c"], opacity=0.5)
    assert half.getpixel((5, 5)) == pytest.approx([c / 2 for c in class_color(0)], abs=1)
    with pytest.raises(ValueError, match="60 x 40 pixels for an image of 8 x 8"):
        draw_label_map(Image.new("RGB", (8, 8)), labels, ["a", "b", "c"])


def test_legends_say_the_shares_of_pixels_largest_first(monkeypatch):
    labels = np.zeros((100, 100), dtype=np.int64)
    labels[:2, :10], labels[50:] = 1, 3  # 3 is none of the names
    said = []
    monkeypatch.setattr(
        label_maps, "lettering", lambda text, size: said.append(text) or lettering(text, size)
    )
    draw_label_map(Image.new("RGB", (100, 100)), labels, ["a", "b", "c"])
    assert said[-3:] == ["none of these 50%", "a 50%", "b <1%"]


@pytest.mark.parametrize(("classes", "mode"), [(255, "P"), (256, "I;16")])
def test_label_maps_are_read_back(tmp_path, classes, mode):
    labels = np.array([[0, 3], [classes - 1, 7]])
    save_label_map(labels, tmp_path / "map.png", classes)
    read = Image.open(tmp_path / "map.png")
    assert read.mode == mode
    assert np.array_equal(np.asarray(read), labels)
    if mode == "P":
        assert read.convert("RGB").getpixel((1, 0)) == class_color(3)


def test_classes_are_outlined_and_named():
    labels = np.zeros((120, 160), dtype=np.int64)
    labels[30:110, 60:150] = 1
    drawn = np.asarray(draw_label_map(Image.new("RGB", (160, 120)), labels, ["a", "bb"], 0.4))[:120]
    outline = (drawn == class_color(1)).all(-1)
    assert outline[30, 70:140].all() and outline[40:100, 60].all()
    # The name stands in the middle of the region: its plate has the full colour.
    assert outline[60:80, 95:115].any() and not outline[40:50, 70:80].any()


def test_none_of_these_stays_as_it_was(tmp_path):
    labels = np.full((40, 60), 2)
    labels[:, :20] = 0
    image = Image.new("RGB", (60, 40), (9, 99, 199))
    drawn = draw_label_map(image, labels, ["a", "b"], opacity=1.0)
    assert drawn.getpixel((50, 5)) == (9, 99, 199) and drawn.getpixel((5, 5)) == class_color(0)
    save_label_map(labels, tmp_path / "map.png", 2)
    read = Image.open(tmp_path / "map.png")
    assert np.array_equal(np.asarray(read), labels)
    assert read.convert("RGB").getpixel((50, 5)) == (0, 0, 0)


def test_scores_are_grey(tmp_path):
    save_score_map(np.array([[0.0, 0.2], [1.0, 0.999]], dtype=np.float32), tmp_path / "scores.png")
    read = np.asarray(Image.open(tmp_path / "scores.png"))
    assert read.dtype == np.uint8 and read.tolist() == [[0, 51], [255, 255]]
