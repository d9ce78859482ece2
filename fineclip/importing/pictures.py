"""What is looked at in image files: size as shown, and a fingerprint that copies share."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import imagehash
import numpy as np

from fineclip.images import opened_image, orientation_of, read_bytes, upright

_SIDE = 12
"""Of the square of lowest frequencies whose signs are the fingerprint: 144 bits. More would be
noise on pictures without detail, fewer would not tell apart things on a plain ground."""

_DRAFT = (256, 256)
"""JPEG files are decoded at the smallest scale that is no smaller."""


class Look(NamedTuple):
    """What one image file shows.

    Attributes:
        size: Width and height in pixels, upright.
        fingerprint: (3,) uint64, the 144 bits of its perceptual hash, and zeros.
    """

    size: tuple[int, int]
    fingerprint: np.ndarray


def upright_size(path: Path) -> tuple[int, int]:
    """Width and height of an image as it is shown.

    Raises:
        UnusableImageError: It cannot be read.
    """
    with opened_image(read_bytes(path), path) as image:
        width, height = image.size
        return (height, width) if orientation_of(image) >= 5 else (width, height)


def look_at(path: Path) -> Look:
    """Reads an image.

    The fingerprint is imagehash's ``phash``: signs of the 12 x 12 lowest frequencies of the upright
    grey picture about their median. Another size, compression or brightness changes few of them.

    Args:
        path: The file.

    Raises:
        UnusableImageError: It cannot be decoded.
    """
    with opened_image(read_bytes(path), path) as image:
        width, height = image.size
        turned = orientation_of(image) >= 5
        image.draft("L", _DRAFT)  # of no effect but on JPEG files
        grey = upright(image)
        bits = imagehash.phash(grey, hash_size=_SIDE).hash
    size = (height, width) if turned else (width, height)
    padded = np.zeros(192, bool)
    padded[: bits.size] = bits.ravel()
    return Look(size, np.packbits(padded).view(np.uint64))
