"""Pictures that say what a class looks like, in place of its words or beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fineclip.checks import shown
from fineclip.paths import inside

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_EXEMPLAR_WEIGHT = 0.5
"""Share of a class's pictures beside its words."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Exemplar:
    """A picture of a class, or the part of a picture that shows it.

    Attributes:
        file: The picture.
        box: x, y, width, height in pixels of the upright picture; None: all of it.
    """

    file: Path
    box: Box | None = None

    def picture(self) -> tuple[Image.Image, Box]:
        """Reads the picture.

        Returns:
            The upright picture in RGB, and xyxy in [0, 1] of it.

        Raises:
            UnusableImageError: The file is missing or cannot be used.
            ValueError: The box lies outside the picture.
        """
        from fineclip.images import read_image  # Pillow: not for --help

        image = read_image(self.file)
        if self.box is None:
            return image, (0.0, 0.0, 1.0, 1.0)
        x, y, width, height = self.box
        x0, x1 = (min(max(value / image.width, 0.0), 1.0) for value in (x, x + width))
        y0, y1 = (min(max(value / image.height, 0.0), 1.0) for value in (y, y + height))
        if x1 <= x0 or y1 <= y0:
            raise ValueError(
                f"exemplar {self.file}: the box {shown(list(self.box))} (x, y, width, height) lies "
                f"outside the picture of {image.width} x {image.height} pixels"
            )
        return image, (x0, y0, x1, y1)


def checked_box(box: Any, where: str) -> Box:
    """Four numbers x, y, width, height.

    Raises:
        ValueError: They are not; the message begins with ``where``.
    """
    numbers = isinstance(box, Sequence) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
        for value in box
    )
    if not numbers or len(box) != 4 or not (box[2] > 0 and box[3] > 0):
        raise ValueError(
            f"{where}: expected x, y, width, height in pixels, both sides above 0, got {shown(box)}"
        )
    x, y, width, height = (float(value) for value in box)
    return x, y, width, height


def listed_exemplars(entries: Any, folder: Path | None, where: str) -> tuple[Exemplar, ...]:
    """The exemplars that a category of a vocabulary file lists.

    Args:
        entries: Names of files, or objects with ``file`` and ``box``.
        folder: Where the vocabulary file lies; names stay in it. None: it is no file.
        where: File and key, for messages.

    Raises:
        ValueError: Anything else, or a name that leads out of the folder.
    """
    if folder is None:
        raise ValueError(
            f"{where}: exemplars are files beside a vocabulary file; write one, or name them with "
            "--exemplar"
        )
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise ValueError(f"{where}: expected a list of picture files, got {shown(entries)}")
    found = []
    for place, entry in enumerate(entries):
        at = f"{where}[{place}]"
        if isinstance(entry, str):
            entry = {"file": entry}
        if not isinstance(entry, Mapping) or not isinstance(entry.get("file"), str):
            raise ValueError(f"{at}: expected a file name or an object with 'file' and 'box'")
        if unknown := sorted(set(entry) - {"file", "box"}):
            raise ValueError(f"{at}: unknown key {unknown[0]!r}; known: file, box")
        try:
            file = inside(folder, entry["file"])
        except ValueError as error:
            raise ValueError(f"{at}: {error}") from None
        box = entry.get("box")
        found.append(Exemplar(file, None if box is None else checked_box(box, f"{at}: box")))
    return tuple(found)
