"""Drawing detections on images."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from detection.inference import Detection
from fineclip.visualization import class_color


def draw_detections(image: Image.Image, detections: Sequence[Detection]) -> Image.Image:
    """A copy of an RGB image with boxes, names and scores; a category keeps its colour.

    Args:
        image: The image.
        detections: What was found in it; the best are drawn last, on top.
    """
    canvas = image.copy()
    draw = ImageDraw.Draw(canvas)
    line = max(1, round(max(image.size) / 320))
    font = ImageFont.load_default(size=max(10, round(max(image.size) / 48)))
    for found in reversed(detections):
        x, y, width, height = found["bbox"]
        color = class_color(found["index"])
        draw.rectangle((x, y, x + width, y + height), outline=color, width=line)
        text = f"{found['category']} {found['score']:.2f}"
        left, top, right, bottom = draw.textbbox((x, y), text, font=font)
        rise = min(bottom - top + 2, y)  # above the box where there is room
        draw.rectangle((left, top - rise, right + 2, bottom - rise), fill=color)
        draw.text((x, y - rise), text, fill="white", font=font)
    return canvas
