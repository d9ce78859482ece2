"""Running a preparation: finding downloaded files, converting them once, keeping what is done."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fineclip.files import replacing
from fineclip.paths import inside

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
        without_map: Images that the download has no label map of, where that is known.
    """

    folder: Path
    written: int
    kept: int
    left_out: int
    without_map: int = 0

    def __str__(self) -> str:
        text = f"{self.folder}: {self.written} label maps written, {self.kept} kept"
        if self.left_out:
            text += f", {self.left_out} images without a class left out"
        return f"{text}, {self.without_map} images lack one" if self.without_map else text


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


def find_matching(places: Sequence[Path], pattern: str, what: str) -> list[Path]:
    """Finds files of a download.

    What other programs make of label maps and put beside them (``NAME_labelTrainIds.png``) is no
    part of it.

    Args:
        places: Where they may be; the first is where they should be.
        pattern: Glob below it.
        what: What should be there and where one gets it, for messages.

    Returns:
        Paths in ascending order, of the first place that has any.

    Raises:
        FileNotFoundError: No folder, or no such file in it.
    """
    for place in places:
        if files := _originals(place.glob(pattern)):
            return files
    if not places[0].is_dir():
        raise FileNotFoundError(f"folder {places[0]} does not exist; {_expected(places, what)}")
    raise FileNotFoundError(
        f"folder {places[0]} holds no {pattern} of the download; {_expected(places, what)}"
    )


def find_named(places: Sequence[Path], names: Sequence[str], suffix: str, what: str) -> list[Path]:
    """Finds files of certain names of a download.

    Args:
        places: See :func:`find_matching`; the one that has most of the files is taken.
        names: Names without suffix.
        suffix: Of the files.
        what: See :func:`find_matching`.

    Returns:
        One path per name.

    Raises:
        FileNotFoundError: No folder, or a file is missing.
        ValueError: A name leads out of the folder.
    """
    there = [place for place in places if place.is_dir()]
    if not there:
        raise FileNotFoundError(f"folder {places[0]} does not exist; {_expected(places, what)}")
    files = {place: [inside(place, f"{name}{suffix}") for name in names] for place in there}
    missing = {
        place: [file.name for file in found if not file.is_file()] for place, found in files.items()
    }
    folder = min(there, key=lambda place: len(missing[place]))
    if lacking := missing[folder]:
        raise FileNotFoundError(
            f"folder {folder} lacks {len(lacking)} of {len(names)} files, such as {lacking[0]}; "
            f"{_expected(places, what)}"
        )
    return files[folder]


def count_without_map(images: Path, maps: Iterable[Path]) -> int:
    """Counts the images (``*.jpg``) of a folder, which may be missing, without a label map."""
    stems = {path.stem for path in maps}
    return sum(path.stem not in stems for path in _originals(images.glob("*.jpg")))


def _originals(paths: Iterable[Path]) -> list[Path]:
    """Files of a download among others, in ascending order."""
    # Hidden files are not of it: operating systems put them there.
    files = {path for path in paths if not path.name.startswith(".")}
    derived = (path for path in files if path.suffix == ".png" and _is_derived(path, files))
    return sorted(files.difference(list(derived)))


def _is_derived(path: Path, files: Collection[Path]) -> bool:
    base, _, addition = path.stem.rpartition("_")
    return addition.lower().endswith("trainids") or path.with_name(f"{base}.png") in files


def _expected(places: Sequence[Path], what: str) -> str:
    others = f" (looked in {len(places) - 1} other places)" if len(places) > 1 else ""
    return f"expected there: {what}{others}; if it lies elsewhere, name the folder with --source"


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
    without_map: int = 0,
) -> Prepared:
    """Makes a folder of label maps; those that are there already are kept.

    Args:
        target: The folder.
        sources: What each label map is made from, by its file name.
        convert: Called with a source and the file to write, says what became of it; must be
            picklable.
        workers: Processes.
        progress: Called with (files done, files in all).
        without_map: See :class:`Prepared`.

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
    return Prepared(target, counts[WRITTEN], counts[KEPT], counts[LEFT_OUT], without_map)


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
