"""Boxes on pictures."""

import numpy as np
from PIL import Image

from fineclip.visualization import class_color, draw_boxes, enlargement, text_color


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


def test_lines_around_the_whole_picture_are_in_it():
    size = 1200, 900  # lines are four pixels wide
    drawn = np.asarray(draw_boxes(Image.new("RGB", size), [(0, 0, *size)], [3], [""]))
    sides = drawn[:4, 600], drawn[-4:, 600], drawn[450, :4], drawn[450, -4:]
    for side in sides:
        assert (side == class_color(3)).all(-1).sum() >= 3


def test_labels_stand_above_their_boxes_or_inside():
    for inside, rows in ((False, slice(30, 39)), (True, slice(42, 49))):
        drawn = draw_boxes(
            Image.new("RGB", (90, 90)), [(20, 40, 60, 40)], [3], ["a"], inside=inside
        )
        plate = (np.asarray(drawn)[:, 21:24] == class_color(3)).all(-1)
        assert plate[rows].any() and plate.sum() < 40
        other = slice(42, 49) if not inside else slice(30, 39)
        assert not plate[other].any()


def test_small_pictures_are_enlarged():
    sizes = {(64, 64): 8, (32, 20): 16, (10, 256): 2, (300, 200): 1, (4000, 400): 1}
    assert {size: enlargement(size) for size in sizes} == sizes


def test_nothing_is_drawn_without_boxes():
    image = Image.new("RGB", (8, 8), "green")
    assert draw_boxes(image, [], [], []).tobytes() == image.tobytes()


def luminance(color):
    """Relative luminance (WCAG 2.2), not by the package's own function."""
    values = np.array(color) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_text_is_readable_on_every_colour():
    for index in range(1203):
        low, high = sorted(luminance(f(index)) for f in (class_color, on_class))
        assert (high + 0.05) / (low + 0.05) >= 4.5
    assert {on_class(index) for index in range(20)} == {(0, 0, 0), (255, 255, 255)}


def on_class(index):
    return text_color(class_color(index))


def test_labels_of_boxes_at_one_place_are_all_there():
    """Each plate has its colour, and as much of it as when it is drawn alone."""
    classes, labels = list(range(8)), [f"thing {n}" for n in range(8)]
    boxes = [(40 + n, 30 + n, 60, 50) for n in range(8)]
    crowded = np.asarray(draw_boxes(Image.new("RGB", (160, 120)), boxes, classes, labels))
    for n in classes:
        alone = np.asarray(
            draw_boxes(Image.new("RGB", (160, 120)), boxes[n : n + 1], [n], ["thing"])
        )
        ink = [(picture == class_color(n)).all(-1).sum() for picture in (crowded, alone)]
        assert ink[0] > 0.5 * ink[1], n
