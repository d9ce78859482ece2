"""Boxes on pictures."""

import numpy as np
from PIL import Image

from fineclip.visualization import class_color, draw_boxes


def test_boxes_have_the_colours_of_their_classes():
    image = Image.new("RGB", (80, 60))
    drawn = draw_boxes(image, [(10, 20, 30, 25), (50, 5, 20, 40)], [0, 7], ["a 0.90", "b 0.80"])
    assert drawn.size == image.size
    assert drawn.getpixel((10, 40)) == drawn.getpixel((40, 30)) == class_color(0)
    assert drawn.getpixel((70, 30)) == class_color(7)
    assert drawn.getpixel((25, 40)) == (0, 0, 0)
    # The label stands above the box where there is room; the picture that was given stays.
    assert np.asarray(drawn)[10:20, 10:25].any()
    assert not np.asarray(image).any()


def test_the_first_box_lies_on_top():
    box = (10, 20, 30, 30)
    drawn = draw_boxes(Image.new("RGB", (80, 60)), [box, box], [3, 4], ["a", "b"])
    assert drawn.getpixel((10, 40)) == class_color(3)


def test_nothing_is_drawn_without_boxes():
    image = Image.new("RGB", (8, 8), "green")
    assert draw_boxes(image, [], [], []).tobytes() == image.tobytes()
