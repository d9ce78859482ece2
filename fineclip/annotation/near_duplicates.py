"""Images of a data set that look like those of a benchmark, which training should not see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fineclip.annotation.duplicates import MAX_BITS, MAX_COLOUR
from fineclip.annotation.fingerprints import Fingerprint, fingerprint
from fineclip.datasets.decoding import decode_image
from fineclip.files import require_folder
from fineclip.images import IMAGE_SUFFIXES, UnusableImageError, read_bytes

_REDUCTION = 4  # of a JPEG's sides while it is decoded, where that leaves enough pixels
_ENOUGH = 256  # pixels of the shorter side
_LISTED = 1000


@dataclass
class NearDuplicates:
    """Looks for images of a benchmark.

    Args:
        files: Images of the benchmark, in order.
        prints: Their fingerprints.

    Attributes:
        pairs: File of the data set, file of the benchmark, and bits in which they differ.
        unreadable: Images that could not be decoded, on either side.
    """

    files: Sequence[str]
    prints: Sequence[Fingerprint]
    pairs: list[tuple[str, str, int]] = field(default_factory=list)
    unreadable: int = 0

    def __post_init__(self) -> None:
        self._looks = np.array([one.looks for one in self.prints], np.uint64)
        colours = [one.colours for one in self.prints]
        self._colours = np.stack(colours).astype(np.int16) if colours else np.zeros((0, 48))

    def look_at(self, file: str, content: bytes) -> None:
        """Compares one image of the data set with all of the benchmark.

        Pictures without contrast are like none.
        """
        try:
            own = _fingerprint(content, file)
        except UnusableImageError:
            self.unreadable += 1
            return
        bits = np.bitwise_count(self._looks ^ np.uint64(own.looks))
        for place in np.flatnonzero(bits <= MAX_BITS).tolist():
            colours = np.abs(self._colours[place] - own.colours.astype(np.int16))
            if not self.prints[place].flat and colours.max() <= MAX_COLOUR:
                self.pairs.append((file, self.files[place], int(bits[place])))

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {
            "benchmark_images": len(self.files),
            "images": len({own for own, _, _ in self.pairs}),
            "benchmark_images_found": len({other for _, other, _ in self.pairs}),
            "unreadable": self.unreadable,
            "pairs": [list(pair) for pair in self.pairs[:_LISTED]],
        }


def near_duplicates_of(
    folders: Sequence[str | Path], progress: Callable[[int, int], None] | None = None
) -> NearDuplicates:
    """Reads the images of a benchmark.

    Args:
        folders: Where they are, in subfolders as well.
        progress: Called with (images done, in all).

    Raises:
        FileNotFoundError: A folder does not exist.
        ValueError: There is no image in them.
    """
    files = [
        file
        for folder in folders
        for file in sorted(require_folder(folder, "benchmark images").rglob("*"))
        if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()
    ]
    if not files:
        raise ValueError(f"benchmark images: there is none in {', '.join(map(str, folders))}")
    names, prints = [], []
    for done, file in enumerate(files, 1):
        try:
            prints.append(_fingerprint(read_bytes(file), str(file)))
            names.append(str(file))
        except UnusableImageError:
            pass
        if progress is not None:
            progress(done, len(files))
    return NearDuplicates(names, prints, unreadable=len(files) - len(names))


def _fingerprint(content: bytes, file: str) -> Fingerprint:
    """Of an image; a large JPEG is decoded at a part of its size, which its fingerprint stands."""
    image = decode_image(content, file, reduction=_REDUCTION)
    if image.reduction > 1 and min(image.width, image.height) < _ENOUGH:
        image = decode_image(content, file)
    return fingerprint(content, image.pixels, [])  # type: ignore[arg-type]  # Pillow's, by default
