"""Boxes on images."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from fineclip.visualization.pictures import class_color, letter_size


def draw_boxes(
    image: Image.Image,
    boxes: Sequence[Sequence[float]],
    classes: Sequence[int],
    labels: Sequence[str],
) -> Image.Image:
    """A copy of an RGB image with labelled boxes; a class keeps its colour.

    Args:
        image: The image.
        boxes: n boxes, xywh in pixels of the image; the first are drawn last, on top.
        classes: Class index of each box.
        labels: Text of each box.
    """
    canvas = image.copy()
    draw = ImageDraw.Draw(canvas)
    line = max(1, round(max(image.size) / 320))
    font = ImageFont.load_default(size=letter_size(image))
    for (x, y, width, height), index, label in reversed(
        list(zip(boxes, classes, labels, strict=True))
    ):
        color = class_color(index)
        draw.rectangle((x, y, x + width, y + height), outline=color, width=line)
        left, top, right, bottom = draw.textbbox((x, y), label, font=font)
        rise = min(bottom - top + 2, y)  # above the box where there is room
        draw.rectangle((left, top - rise, right + 2, bottom - rise), fill=color)
        draw.text((x, y - rise), label, fill="white", font=font)
    return canvas
