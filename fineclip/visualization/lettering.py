"""Text on pictures: a font that has the letters, and no more text than there is room for."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from PIL import Image, ImageFont

from fineclip.visualization.pictures import typical_side

_ELLIPSIS = "..."

_Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Lettering:
    """Text in the font that it is drawn with.

    Attributes:
        text: What is drawn: letters that no font has are escaped (``U+732B`` becomes its code).
        font: The font.
        size: Of the letters in pixels.
    """

    text: str
    font: _Font
    size: int

    @property
    def width(self) -> int:
        """Of the text in pixels."""
        left, _, right, _ = self.font.getbbox(self.text)
        return round(right - min(left, 0))

    def fitted(self, width: float) -> Lettering:
        """As much of the text as fits.

        Args:
            width: In pixels.

        Returns:
            The text itself, or its beginning, three dots and its last word (a score, a share), or
            its beginning and dots; empty if not even these fit.
        """
        if self.width <= width:
            return self
        head, _, last = self.text.rstrip().rpartition(" ")
        for start, end in ((head, f"{_ELLIPSIS} {last}"), (self.text, _ELLIPSIS)):
            found = self._longest(start, end, width)
            if found is not None:
                return found
        return replace(self, text="")

    def _longest(self, start: str, end: str, width: float) -> Lettering | None:
        """The longest part of ``start`` that fits with ``end``; None if not one letter does."""
        shortest, longest = 0, len(start)
        while shortest < longest:
            middle = (shortest + longest + 1) // 2
            if replace(self, text=start[:middle].rstrip() + end).width <= width:
                shortest = middle
            else:
                longest = middle - 1
        return replace(self, text=start[:shortest].rstrip() + end) if shortest else None


def lettering(text: str, size: int) -> Lettering:
    """Finds a font for a text.

    Plain Latin is drawn with Pillow's font; the first other that has all letters, of matplotlib's
    and then of those installed on this machine, is taken for the rest.

    Args:
        text: One line.
        size: Of the letters in pixels.
    """
    drawn, path = typeset(text)
    if path is None:
        return Lettering(drawn, ImageFont.load_default(size=size), size)
    return Lettering(drawn, ImageFont.truetype(path, size), size)


def typeset(text: str) -> tuple[str, Path | None]:
    """What of a text can be drawn on this machine, and the font that has its letters.

    Returns:
        The text, its letters escaped that no font has, and the file of the font; None: the default
        one of whatever draws.
    """
    if _is_plain(text):
        return text, None
    path, missing = _font_file(frozenset(text))
    return "".join(_escaped(letter) if letter in missing else letter for letter in text), path


def undrawable(names: Iterable[str]) -> list[str]:
    """The names with a letter that no font on this machine has, which are drawn escaped."""
    return [name for name in names if not _is_plain(name) and _font_file(frozenset(name))[1]]


def letter_size(image: Image.Image) -> int:
    """Size in pixels of letters that can be read beside an image, and leave room on it."""
    return max(10, round(typical_side(image) / 40))


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


@functools.cache
def _font_file(letters: frozenset[str]) -> tuple[Path | None, frozenset[str]]:
    """The font for some letters, and those that it lacks; None without any font but Pillow's."""
    control = frozenset(letter for letter in letters if unicodedata.category(letter) == "Cc")
    # Joiners and selectors of variants act on the letters beside them.
    needed = {
        ord(letter)
        for letter in letters - control
        if unicodedata.category(letter) != "Cf" and not 0xFE00 <= ord(letter) <= 0xFE0F
    }
    own = _matplotlib_font()
    if own is not None and needed <= _characters(own):
        return own, control
    for path in _installed_fonts():
        if needed <= _characters(path):
            return path, control
    known = _characters(own) if own is not None else frozenset(range(32, 127))
    return own, control | {chr(point) for point in needed - known}


def _matplotlib_font() -> Path | None:
    """DejaVu Sans (Latin, Greek, Cyrillic, Hebrew, Arabic, and more), which matplotlib has."""
    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return path if path.is_file() else None


@functools.cache
def _installed_fonts() -> tuple[Path, ...]:
    """Font files of this machine, plain styles first."""
    from matplotlib.font_manager import findSystemFonts  # lists all fonts at its first import

    styles = ("bold", "italic", "oblique", "light", "thin", "black", "mono", "serif", "condensed")

    def order(path: Path) -> tuple[int, str]:
        return sum(style in path.name.lower() for style in styles), str(path)

    files = (Path(file) for file in findSystemFonts())
    # Fonts of last resort have a box for everything.
    return tuple(sorted((p for p in files if "lastresort" not in p.name.lower()), key=order))


@functools.cache
def _characters(path: Path) -> frozenset[int]:
    """Code points that a font has glyphs for; none of a font that cannot be drawn in any size."""
    from matplotlib.ft2font import FT2Font  # the same

    try:
        font = FT2Font(str(path))
        # Pictures of one size, as emoji have them, are no letters.
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError, ValueError):  # whatever lies among the fonts
        return frozenset()
