"""Boxes on images."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from fineclip.visualization.lettering import Lettering, letter_size, lettering
from fineclip.visualization.pictures import class_color

_EDGE = 1  # between a label's letters and the border of its plate, in pixels


def draw_boxes(
    image: Image.Image,
    boxes: Sequence[Sequence[float]],
    classes: Sequence[int],
    labels: Sequence[str],
) -> Image.Image:
    """A copy of an RGB image with labelled boxes; a class keeps its colour.

    Labels stay inside the image. What is too long for it is cut in the middle.

    Args:
        image: The image.
        boxes: n boxes, xywh in pixels of the image; the first are drawn last, on top.
        classes: Class index of each box.
        labels: Text of each box, in any script.
    """
    canvas = image.copy()
    draw = ImageDraw.Draw(canvas)
    line = max(1, round(max(image.size) / 320))
    size = letter_size(image)
    for (x, y, width, height), index, label in reversed(
        list(zip(boxes, classes, labels, strict=True))
    ):
        color = class_color(index)
        draw.rectangle((x, y, x + width, y + height), outline=color, width=line)
        fitted = lettering(label, size).fitted(image.width - 2 * _EDGE)
        if fitted.text:
            _draw_label(draw, image.size, (x, y), fitted, color)
    return canvas


def _draw_label(
    draw: ImageDraw.ImageDraw,
    canvas: tuple[int, int],
    corner: tuple[float, float],
    label: Lettering,
    color: tuple[int, int, int],
) -> None:
    """White letters on a plate above the corner of a box, below it where there is no room."""
    left, top, right, bottom = draw.textbbox((0, 0), label.text, font=label.font)
    width, height = right - left + 2 * _EDGE, bottom - top + 2 * _EDGE
    x = max(0, min(round(corner[0]), canvas[0] - width))
    above = round(corner[1]) - height
    y = max(0, min(above if above >= 0 else round(corner[1]), canvas[1] - height))
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
    draw.text((x + _EDGE - left, y + _EDGE - top), label.text, fill="white", font=label.font)
