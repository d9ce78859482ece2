"""Label maps as pictures: overlays with a legend, and files with a palette."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fineclip.visualization.lettering import letter_size, lettering
from fineclip.visualization.pictures import class_color, save_png

_LEGEND_BACKGROUND = (24, 24, 24)


def draw_label_map(
    image: Image.Image, labels: np.ndarray, names: Sequence[str], opacity: float = 0.55
) -> Image.Image:
    """The image with coloured classes, and below it a legend of those that occur.

    Args:
        image: RGB.
        labels: (H, W) class indices, of the image's size.
        names: Names of the classes, in any script; what is too long for the image is cut.
        opacity: Share of the colours.

    Returns:
        An RGB image as wide as the given one; the legend's classes stand in the order of their
        share, largest first.

    Raises:
        ValueError: Labels of another size than the image's.
    """
    if labels.shape != image.size[::-1]:
        raise ValueError(
            f"labels of {labels.shape[1]} x {labels.shape[0]} pixels for an image of "
            f"{image.size[0]} x {image.size[1]}"
        )
    present, where, counts = np.unique(labels, return_inverse=True, return_counts=True)
    colors = np.array([class_color(int(index)) for index in present], dtype=np.uint8)
    overlay = Image.fromarray(colors[where.reshape(labels.shape)])
    blended = Image.blend(image.convert("RGB"), overlay, opacity)
    order = np.argsort(-counts, kind="stable")
    legend = _legend(
        image.width,
        [(names[present[i]], class_color(int(present[i])), counts[i] / labels.size) for i in order],
        letter_size(image),
    )
    canvas = Image.new("RGB", (image.width, image.height + legend.height), _LEGEND_BACKGROUND)
    canvas.paste(blended, (0, 0))
    canvas.paste(legend, (0, image.height))
    return canvas


def save_label_map(labels: np.ndarray, path: str | Path, num_classes: int) -> None:
    """Writes class indices as a PNG: 8 bit with the classes' colours, 16 bit beyond 255 classes.

    Args:
        labels: (H, W) class indices.
        path: The file; it appears only when it is complete.
        num_classes: K, which decides about the format, so that all files of a vocabulary agree.
    """
    if num_classes <= 255:
        picture = Image.fromarray(labels.astype(np.uint8), mode="P")
        picture.putpalette([value for index in range(256) for value in class_color(index)])
    else:
        picture = Image.fromarray(labels.astype(np.uint16))
    save_png(picture, path)


def _legend(
    width: int,
    entries: Sequence[tuple[str, tuple[int, int, int], float]],
    size: int,
) -> Image.Image:
    """Name, colour and share of each entry, in as many columns as fit.

    Args:
        width: Of the picture in pixels.
        entries: (name, colour, share) of each class.
        size: Of the letters in pixels.
    """
    texts = [lettering(f"{name} {share:.0%}", size) for name, _, share in entries]
    line, margin = round(size * 1.5), round(size * 0.4)
    widest = max(text.width for text in texts) + line + 3 * margin
    columns = max(1, min(len(entries), width // widest))
    rows = -(-len(entries) // columns)
    legend = Image.new("RGB", (width, rows * line + margin), _LEGEND_BACKGROUND)
    draw = ImageDraw.Draw(legend)
    room = width // columns - line - 2 * margin
    for place, ((_, color, _), text) in enumerate(zip(entries, texts, strict=True)):
        left = place // rows * (width // columns) + margin
        shown = text.fitted(room)
        top = place % rows * line + margin
        draw.rectangle((left, top, left + size, top + size), fill=color)
        draw.text((left + line, top - size // 8), shown.text, fill="white", font=shown.font)
    return legend
