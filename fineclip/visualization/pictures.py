"""What pictures of every kind share: colours, and how they are written."""

from __future__ import annotations

import colorsys
import math
from pathlib import Path
from typing import TypeAlias

from PIL import Image

from fineclip.files import replacing

_LEAST_SIDE = 512  # of the longer side in pixels
_GOLDEN = 0.618033988749895  # hues this far apart stay apart, however many there are

Color: TypeAlias = tuple[int, int, int]
"""RGB, 0..255."""


def class_color(index: int) -> Color:
    """The RGB colour of a class, 0..255; it depends on nothing but the index."""
    # Many hues get close to each other: two of three classes are darker as well.
    value = (0.95, 0.75, 0.55)[index % 3]
    red, green, blue = colorsys.hsv_to_rgb(index * _GOLDEN % 1, 0.8, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_color(background: Color) -> Color:
    """Black or white, whichever can be read better on a colour.

    The better one has a contrast of at least 4.58 to any colour; 4.5 is what WCAG 2.2 (level AA)
    asks for text of normal size.
    """
    light = _luminance(background)
    return (0, 0, 0) if (light + 0.05) / 0.05 >= 1.05 / (light + 0.05) else (255, 255, 255)


def _luminance(color: Color) -> float:
    """Relative luminance in [0, 1] of an sRGB colour, as WCAG 2.2 defines it."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in color)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def typical_side(image: Image.Image) -> float:
    """Side in pixels of the square with an image's area: what letters and lines are measured by."""
    return math.sqrt(image.width * image.height)


def enlargement(size: tuple[int, int]) -> int:
    """The whole number, 1 or more, that a small image is enlarged by so that letters fit on it."""
    return max(1, _LEAST_SIDE // max(size))


def save_png(picture: Image.Image, path: str | Path) -> None:
    """Writes a PNG file, which appears only when it is complete.

    Raises:
        OSError: The folder does not exist or cannot be written to.
    """
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")
