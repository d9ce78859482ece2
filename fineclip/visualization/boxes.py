"""Boxes on images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from fineclip.visualization.lettering import Lettering, letter_size, lettering
from fineclip.visualization.pictures import Color, class_color, text_color, typical_side
from fineclip.visualization.placing import Point, place_labels


def draw_boxes(
    image: Image.Image,
    boxes: Sequence[Sequence[float]],
    classes: Sequence[int],
    labels: Sequence[str],
    *,
    inside: bool = False,
) -> Image.Image:
    """A copy of an RGB image with labelled boxes; a class keeps its colour.

    Labels stay inside the image and cover no other label. One that had to move away from its box is
    tied to it by a line; one for which there is no room is left out, its box is drawn all the same.
    What is too long for the image is cut in the middle.

    Args:
        image: The image.
        boxes: n boxes, xywh in pixels of the image; the first are drawn last, on top, and their
            labels choose their place first.
        classes: Class index of each box.
        labels: Text of each box, in any script.
        inside: Labels stand in boxes that are at least four times as large, as those of boxes
            without gaps between them should; else above, where they cover nothing of the box.
    """
    canvas = image.copy()
    if not len(boxes):
        return canvas
    corners = np.asarray(boxes, dtype=float).reshape(len(labels), 4)
    corners = np.hstack([corners[:, :2], corners[:, :2] + corners[:, 2:]])
    colors = [class_color(index) for index in classes]
    _draw_outlines(canvas, corners[::-1], colors[::-1])
    size = letter_size(image)
    texts = [lettering(label, size).fitted(image.width - 2 * _edge(size)) for label in labels]
    shown = [place for place, text in enumerate(texts) if text.text]
    draw_labels(
        canvas,
        [texts[place] for place in shown],
        [colors[place] for place in shown],
        [_around(corners[place], plate_size(texts[place]), inside) for place in shown],
        ties=[corners[place] for place in shown],
    )
    return canvas


def draw_labels(
    canvas: Image.Image,
    texts: Sequence[Lettering],
    colors: Sequence[Color],
    wanted: Sequence[Sequence[Point]],
    ties: Sequence[np.ndarray] | None = None,
) -> None:
    """Draws texts on plates that cover no other and stay in the image, in place.

    Args:
        canvas: RGB.
        texts: n texts, none of them empty.
        colors: Of the plates.
        wanted: As for :func:`fineclip.visualization.placing.place_labels`.
        ties: xyxy of what each label belongs to, to which a line leads from a label that does not
            touch it.
    """
    sizes = [plate_size(text) for text in texts]
    places = place_labels(wanted, sizes, canvas.size)
    draw = ImageDraw.Draw(canvas)
    for number, (place, size) in enumerate(zip(places, sizes, strict=True)):
        if place is not None and ties is not None:
            _draw_tie(draw, place, size, ties[number], colors[number])
    for place, size, text, color in zip(places, sizes, texts, colors, strict=True):
        if place is None:
            continue
        (x, y), (width, height) = place, size
        left, top, *_ = text.font.getbbox(text.text)
        edge = _edge(text.size)
        draw.rectangle((x, y, x + width - 1, y + height - 1), fill=color)
        corner = (x + edge - left, y + edge - top)
        draw.text(corner, text.text, fill=text_color(color), font=text.font)


def plate_size(text: Lettering) -> Point:
    """Width and height in pixels of the plate that a text is drawn on."""
    left, top, right, bottom = text.font.getbbox(text.text)
    around = 2 * _edge(text.size)
    return int(np.ceil(right - left)) + around, int(np.ceil(bottom - top)) + around


def _edge(size: int) -> int:
    """Pixels between letters of a size and the border of their plate."""
    return max(2, size // 8)


def _draw_outlines(canvas: Image.Image, corners: np.ndarray, colors: list[Color]) -> None:
    """Draws the (n, 4) boxes, xyxy, the last on top; the lines are within the picture."""
    import supervision as sv  # takes a second, which only pictures need

    line = max(1, round(typical_side(canvas) / 270))
    annotator = sv.BoxAnnotator(
        color=sv.ColorPalette([sv.Color(*color) for color in colors]),
        thickness=line,
        color_lookup=sv.ColorLookup.INDEX,
    )
    last = np.array([*canvas.size, *canvas.size]) - 1 - line // 2
    annotator.annotate(canvas, sv.Detections(xyxy=corners.clip(line // 2, last)))


def _around(box: np.ndarray, size: Point, inside: bool) -> list[Point]:
    """Places of a label at its box, at the top before the bottom and left before right."""
    (x0, y0, x1, y1), (width, height) = box.round().astype(int).tolist(), size
    within, beyond = (y0, y1 - height), (y0 - height, y1)
    inside = inside and (x1 - x0) * (y1 - y0) >= 4 * width * height
    rows = [*within, *beyond] if inside else [beyond[0], within[0], beyond[1], within[1]]
    return [(x, y) for x in (x0, x1 - width) for y in rows]


def _draw_tie(
    draw: ImageDraw.ImageDraw, place: Point, size: Point, box: np.ndarray, color: Color
) -> None:
    """A line between a label and its box where they are apart."""
    low, high = np.array(place), np.add(place, size)
    if (low > box[2:] + 1).any() or (high < box[:2] - 1).any():
        start = (low + high) / 2
        end = np.clip(start, box[:2], box[2:])
        draw.line((*start.tolist(), *end.tolist()), fill=color)
