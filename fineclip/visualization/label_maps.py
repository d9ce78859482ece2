"""Label maps as pictures: overlays with names and a legend, and files with a palette."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw

from fineclip.visualization.boxes import draw_labels, plate_size
from fineclip.visualization.lettering import letter_size, lettering
from fineclip.visualization.pictures import Color, class_color, save_png, typical_side

NONE_OF_THESE = "none of these"
"""What pictures call pixels that have none of the names."""

OPACITY = 0.55

_LEGEND_BACKGROUND = (24, 24, 24)
_UNNAMED = (128, 128, 128)


def draw_label_map(
    image: Image.Image, labels: np.ndarray, names: Sequence[str], opacity: float = OPACITY
) -> Image.Image:
    """The image with coloured, outlined and named classes, and below it a legend of them.

    Args:
        image: RGB.
        labels: (H, W) class indices, of the image's size; K, one more than the last class, is none
            of the names and stays as it is in the image.
        names: Names of the K classes, in any script; what is too long for the image is cut.
        opacity: Share of the colours inside the outlines.

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
    present, counts = np.unique(labels, return_counts=True)
    order = [int(place) for place in np.argsort(-counts, kind="stable")]
    classes = [int(present[place]) for place in order]
    named = [index for index in classes if index < len(names)]
    drawn = image.convert("RGB")
    _paint(drawn, labels, named, opacity)
    _name_regions(drawn, labels, named, names)
    entries = [
        (names[index], class_color(index)) if index < len(names) else (NONE_OF_THESE, _UNNAMED)
        for index in classes
    ]
    shares = [counts[place] / labels.size for place in order]
    legend = _legend(
        image.width,
        [(*entry, share) for entry, share in zip(entries, shares, strict=True)],
        letter_size(image),
    )
    canvas = Image.new("RGB", (image.width, image.height + legend.height), _LEGEND_BACKGROUND)
    canvas.paste(drawn, (0, 0))
    canvas.paste(legend, (0, image.height))
    return canvas


def save_label_map(labels: np.ndarray, path: str | Path, num_classes: int) -> None:
    """Writes class indices as a PNG: 8 bit with the classes' colours, 16 bit beyond 255 classes.

    Args:
        labels: (H, W) class indices; K is none of the classes, and black.
        path: The file; it appears only when it is complete.
        num_classes: K, which decides about the format, so that all files of a vocabulary agree.
    """
    if num_classes <= 255:
        picture = Image.fromarray(labels.astype(np.uint8), mode="P")
        colors = [class_color(index) for index in range(num_classes)]
        picture.putpalette([value for color in colors for value in color] + [0, 0, 0])
    else:
        picture = Image.fromarray(labels.astype(np.uint16))
    save_png(picture, path)


def save_score_map(scores: np.ndarray, path: str | Path) -> None:
    """Writes scores as an 8-bit grey PNG, in which 255 is 1.

    Args:
        scores: (H, W) in [0, 1].
        path: The file; it appears only when it is complete.
    """
    save_png(Image.fromarray(np.rint(scores.clip(0, 1) * 255).astype(np.uint8)), path)


def _paint(drawn: Image.Image, labels: np.ndarray, classes: Sequence[int], opacity: float) -> None:
    """Colours and outlines classes, in place; one mask at a time, as there may be hundreds."""
    import supervision as sv  # takes a second, which only pictures need

    scene = np.ascontiguousarray(np.asarray(drawn)[:, :, ::-1])  # annotators draw in BGR
    line = max(1, round(typical_side(drawn) / 400))
    for index in classes:
        mask = (labels == index)[None]
        region = sv.Detections(xyxy=sv.mask_to_xyxy(mask).astype(float), mask=mask)
        color = sv.ColorPalette([sv.Color(*class_color(index))])
        for annotator in (
            sv.MaskAnnotator(color, opacity, sv.ColorLookup.INDEX),
            sv.PolygonAnnotator(color, line, sv.ColorLookup.INDEX),
        ):
            scene = annotator.annotate(scene, region)
    drawn.paste(Image.fromarray(np.ascontiguousarray(scene[:, :, ::-1])))


def _name_regions(
    drawn: Image.Image, labels: np.ndarray, classes: Sequence[int], names: Sequence[str]
) -> None:
    """Writes each class's name where its region is widest, if it is as wide as a letter is high."""
    size = letter_size(drawn)
    texts, colors, wanted = [], [], []
    for index in classes:
        text = lettering(names[index], size).fitted(drawn.width / 2)
        mask = np.pad((labels == index).astype(np.uint8), 1)  # what is cut off ends at the border
        depth = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_3)[1:-1, 1:-1]
        if text.text and depth.max() >= size / 2:
            # A long region is as wide in many places: the middle one.
            widest = np.argwhere(depth >= 0.95 * depth.max())
            y, x = widest[((widest - widest.mean(axis=0)) ** 2).sum(axis=1).argmin()].tolist()
            width, height = plate_size(text)
            texts.append(text)
            colors.append(class_color(index))
            wanted.append([(x - width // 2, y - height // 2)])
    draw_labels(drawn, texts, colors, wanted)


def _legend(width: int, entries: Sequence[tuple[str, Color, float]], size: int) -> Image.Image:
    """Name, colour and share of each entry, in as many columns as fit.

    Args:
        width: Of the picture in pixels.
        entries: (name, colour, share) of each class.
        size: Of the letters in pixels.
    """
    shares = ["<1%" if share < 0.005 else f"{share:.0%}" for *_, share in entries]
    texts = [
        lettering(f"{name} {share}", size)
        for (name, *_), share in zip(entries, shares, strict=True)
    ]
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
