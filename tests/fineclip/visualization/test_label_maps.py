"""Label maps as pictures."""

import numpy as np
import pytest
from PIL import Image

from fineclip.visualization import class_color, draw_label_map, save_label_map


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
    assert drawn.getpixel((50, 5)) == class_color(2)
    legend = np.asarray(drawn)[40:].reshape(-1, 3)
    present = {tuple(map(int, color)) for color in legend}
    assert {class_color(0), class_color(2)} <= present and class_color(1) not in present
    half = draw_label_map(Image.new("RGB", (60, 40)), labels, ["a", "b", "c"], opacity=0.5)
    assert half.getpixel((5, 5)) == pytest.approx([c / 2 for c in class_color(0)], abs=1)
    with pytest.raises(ValueError, match="60 x 40 pixels for an image of 8 x 8"):
        draw_label_map(Image.new("RGB", (8, 8)), labels, ["a", "b", "c"])


@pytest.mark.parametrize(("classes", "mode"), [(255, "P"), (256, "I;16")])
def test_label_maps_are_read_back(tmp_path, classes, mode):
    labels = np.array([[0, 3], [classes - 1, 7]])
    save_label_map(labels, tmp_path / "map.png", classes)
    read = Image.open(tmp_path / "map.png")
    assert read.mode == mode
    assert np.array_equal(np.asarray(read), labels)
    if mode == "P":
        assert read.convert("RGB").getpixel((1, 0)) == class_color(3)
