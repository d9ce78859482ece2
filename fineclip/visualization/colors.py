"""Colours of classes."""

from __future__ import annotations

import colorsys

_GOLDEN = 0.618033988749895  # hues this far apart stay apart, however many there are


def class_color(index: int) -> tuple[int, int, int]:
    """The RGB colour of a class, 0..255; it depends on nothing but the index."""
    # Every third class is darker, for hues alone get close at last.
    value = (0.95, 0.75, 0.55)[index % 3]
    red, green, blue = colorsys.hsv_to_rgb(index * _GOLDEN % 1, 0.8, value)
    return round(red * 255), round(green * 255), round(blue * 255)
