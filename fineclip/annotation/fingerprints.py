"""Fingerprints of images: equal for equal files, and close for pictures that look alike."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from fineclip.annotation.caption_cleaning import normalised

_SIDE, _KEPT = 32, 8
_FLAT = 2.0  # grey levels; the frequencies of a picture with less contrast are noise
_FIELDS = 4  # on a side
COLOURS = 3 * _FIELDS**2
"""Of a fingerprint."""

_rows = np.arange(_SIDE)
_COSINES = np.cos(np.pi * np.outer(np.arange(_KEPT), 2 * _rows + 1) / (2 * _SIDE))


@dataclass(frozen=True)
class Fingerprint:
    """Of an image and its captions.

    Attributes:
        content: 16 bytes, hash of the file.
        looks: 64 bits, signs of the lowest frequencies of its grey levels (Zauner's pHash, 2010).
        flat: The picture has hardly any contrast, so that ``looks`` says nothing.
        colours: (48,) uint8, RGB of 4 x 4 fields.
        text: 8 bytes, hash of its first caption but for case and punctuation; zeros without one.
    """

    content: bytes
    looks: int
    flat: bool
    colours: np.ndarray
    text: bytes


def fingerprint(content: bytes, image: Image.Image, captions: list[str]) -> Fingerprint:
    """Makes it.

    Args:
        content: The file.
        image: Its pixels, RGB.
        captions: Cleaned.
    """
    small = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BOX), np.float64)
    grey = small @ (0.299, 0.587, 0.114)
    frequencies = (_COSINES @ grey @ _COSINES.T).ravel()
    frequencies[0] = np.median(frequencies[1:])  # the mean grey level says nothing
    bits = frequencies > np.median(frequencies[1:])
    side = _SIDE // _FIELDS
    colours = small.reshape(_FIELDS, side, _FIELDS, side, 3).mean((1, 3))
    text = bytes(8)
    if captions:
        text = hashlib.blake2b(normalised(captions[0]).encode(), digest_size=8).digest()
    return Fingerprint(
        hashlib.blake2b(content, digest_size=16).digest(),
        int.from_bytes(np.packbits(bits).tobytes(), "big"),
        bool(grey.std() < _FLAT),
        np.rint(colours).astype(np.uint8).ravel(),
        text,
    )
