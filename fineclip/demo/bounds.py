"""How much a visitor of the page may ask for, and what is said to one who asks for more."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from fineclip.images import UnusableImageError, opened_image, read_bytes, upright_rgb
from fineclip.text.vocabulary import check_names

_SEPARATORS = re.compile(r"[,\n]")


@dataclass(frozen=True)
class Bounds:
    """The most that is taken.

    Attributes:
        file_bytes: Of a photograph's file.
        pixels: Of a photograph; told from its header, before it is decoded.
        side: Longer side in pixels that is worked with; what is larger is shrunk to it.
        words: At a time.
        letters: Of a word.
        waiting: Requests of all visitors that wait for their turn.
    """

    file_bytes: int = 20 << 20
    pixels: int = 50_000_000
    side: int = 1600
    words: int = 100
    letters: int = 200
    waiting: int = 32


DEFAULT_BOUNDS = Bounds()


def words_of(text: str, bounds: Bounds) -> tuple[str, ...]:
    """The words of a text that separates them by commas or lines; repeated ones count once.

    Raises:
        ValueError: None, too many, one that is too long, or two that read the same in prompts.
    """
    if len(text) > bounds.words * (bounds.letters + 2):
        raise ValueError(f"{len(text)} letters are too many: {bounds.words} words at most, please")
    parts = (" ".join(part.split()) for part in _SEPARATORS.split(text))
    words = tuple(dict.fromkeys(part for part in parts if part))
    if not words:
        raise ValueError("Type words to look for, separated by commas.")
    if len(words) > bounds.words:
        raise ValueError(f"{len(words)} words are too many: {bounds.words} at most, please.")
    for number, word in enumerate(words, 1):
        if len(word) > bounds.letters:
            raise ValueError(
                f"Word {number} has {len(word)} letters, {bounds.letters} at most, please: "
                f"{word[:40]}..."
            )
    check_names(words, "words", [f"word {number}" for number in range(1, len(words) + 1)])
    return words


def read_photograph(path: str | Path, bounds: Bounds) -> Image.Image:
    """Decodes an uploaded file, as :mod:`fineclip.images` has it, within the bounds.

    Messages call the file by its name without its folder.

    Returns:
        The upright image in RGB, its longer side at most ``bounds.side`` pixels.

    Raises:
        UnusableImageError: It is gone, empty, too large, damaged or no image.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
    except OSError:
        raise UnusableImageError(path.name, "is no longer there: drop it once more") from None
    if not size:
        raise UnusableImageError(path.name, "is an empty file (0 bytes)")
    if size > bounds.file_bytes:
        raise UnusableImageError(
            path.name,
            f"has {size / 2**20:.1f} MB, {bounds.file_bytes >> 20} at most, please: shrink it",
        )
    with opened_image(read_bytes(path), path.name) as image:
        width, height = image.size
        if width * height > bounds.pixels:
            raise UnusableImageError(
                path.name,
                f"has {width} x {height} pixels, {bounds.pixels / 1e6:.0f} million at most, "
                "please: shrink it",
            )
        rgb = upright_rgb(image, path.name)
    if max(rgb.size) > bounds.side:
        rgb = ImageOps.contain(rgb, (bounds.side, bounds.side))
    return rgb
