"""Running a preparation: finding downloaded files, converting them once, keeping what is done."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fineclip.files import replacing

Progress = Callable[[int, int], None]

WRITTEN, LEFT_OUT, KEPT = "written", "left out", "kept"
"""What can become of a label map."""

_CHUNK = 16  # most files per task of a worker


@dataclass(frozen=True)
class Prepared:
    """What became of one folder.

    Attributes:
        folder: Of the label maps.
        written: Label maps made now.
        kept: Label maps that were there already.
        left_out: Images without a labelled pixel, where the benchmark leaves these out.
    """

    folder: Path
    written: int
    kept: int
    left_out: int

    def __str__(self) -> str:
        text = f"{self.folder}: {self.written} label maps written, {self.kept} kept"
        return f"{text}, {self.left_out} images without a class left out" if self.left_out else text


def save(pixels: np.ndarray, path: Path, kind: str) -> None:
    """Writes an image file, all or nothing.

    Args:
        pixels: (H, W) uint8 or uint16, or (H, W, 3) uint8.
        path: File to write.
        kind: Pillow's name of the format.
    """
    # A map of few labels is small when compressed; PNG always is.
    options = {"compression": "tiff_deflate"} if kind == "TIFF" else {}
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format=kind, **options)


def find_matching(folder: Path, pattern: str, what: str) -> list[Path]:
    """Finds files of a download.

    Args:
        folder: Where they should be.
        pattern: Glob below it.
        what: What should be there and where one gets it, for messages.

    Returns:
        Paths in ascending order.

    Raises:
        FileNotFoundError: No folder, or no such file in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder {folder} does not exist; expected there: {what}")
    # Hidden files are not of the download: operating systems put them there.
    files = sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"folder {folder} holds no {pattern}; expected there: {what}")
    return files


def find_named(folder: Path, names: Sequence[str], suffix: str, what: str) -> list[Path]:
    """Finds files of certain names of a download.

    Args:
        folder: Where they should be.
        names: Names without suffix.
        suffix: Of the files.
        what: See :func:`find_matching`.

    Returns:
        One path per name.

    Raises:
        FileNotFoundError: No folder, or a file is missing.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"folder {folder} does not exist; expected there: {what}")
    files = [folder / f"{name}{suffix}" for name in names]
    if missing := [path.name for path in files if not path.is_file()]:
        raise FileNotFoundError(
            f"folder {folder} lacks {len(missing)} of {len(files)} files, such as {missing[0]}; "
            f"expected there: {what}"
        )
    return files


def read_names(file: Path, what: str) -> list[str]:
    """Reads the names in a text file, one a line.

    Raises:
        FileNotFoundError: There is no such file; the message says that it is ``what``.
        ValueError: It is empty.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; expected: {what}")
    names = file.read_text(encoding="utf-8").split()
    if not names:
        raise ValueError(f"{file} is empty; expected names of images, one a line")
    return names


@contextlib.contextmanager
def finished(folder: Path) -> Iterator[Path]:
    """Gives the folder to write to: one that is there already, or one that is named when complete.

    Args:
        folder: The folder wanted. As long as it is new and the block has not ended well, it is
            called that and ``.incomplete``.
    """
    if folder.is_dir():
        yield folder
        return
    growing = folder.with_name(f"{folder.name}.incomplete")
    growing.mkdir(parents=True, exist_ok=True)
    yield growing
    growing.rename(folder)


def make_folder(
    target: Path,
    sources: Mapping[str, Any],
    convert: Callable[[Any, Path], str],
    workers: int,
    progress: Progress | None,
) -> Prepared:
    """Makes a folder of label maps; those that are there already are kept.

    Args:
        target: The folder.
        sources: What each label map is made from, by its file name.
        convert: Called with a source and the file to write, says what became of it; must be
            picklable.
        workers: Processes.
        progress: Called with (files done, files in all).

    Raises:
        Exception: Whatever ``convert`` raises first; what is done by then stays.
    """
    with finished(target) as folder:
        todo = {name: source for name, source in sources.items() if not (folder / name).exists()}
        counts = Counter({KEPT: len(sources) - len(todo)})
        if progress is not None and not todo:
            progress(len(sources), len(sources))
        for result in _results(convert, todo.values(), [folder / name for name in todo], workers):
            counts[result] += 1
            if progress is not None:
                progress(counts.total(), len(sources))
    return Prepared(target, counts[WRITTEN], counts[KEPT], counts[LEFT_OUT])


def _results(
    convert: Callable[[Any, Path], str],
    sources: Iterable[Any],
    targets: Sequence[Path],
    workers: int,
) -> Iterator[str]:
    """What becomes of each file, in their order."""
    workers = min(workers, len(targets))
    if workers <= 1:
        yield from map(convert, sources, targets)
        return
    # A failure cancels what has not begun and waits for the rest: no file is cut off.
    with ProcessPoolExecutor(workers) as pool:
        chunk = max(1, min(_CHUNK, len(targets) // workers))
        yield from pool.map(convert, sources, targets, chunksize=chunk)
