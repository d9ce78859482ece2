"""What pictures of every kind share: colours, and how they are written."""

from __future__ import annotations

import colorsys
from pathlib import Path

from PIL import Image

from fineclip.files import replacing

_GOLDEN = 0.618033988749895  # hues this far apart stay apart, however many there are


def class_color(index: int) -> tuple[int, int, int]:
    """The RGB colour of a class, 0..255; it depends on nothing but the index."""
    # Many hues get close to each other: two of three classes are darker as well.
    value = (0.95, 0.75, 0.55)[index % 3]
    red, green, blue = colorsys.hsv_to_rgb(index * _GOLDEN % 1, 0.8, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def save_png(picture: Image.Image, path: str | Path) -> None:
    """Writes a PNG file, which appears only when it is complete.

    Raises:
        OSError: The folder does not exist or cannot be written to.
    """
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")
