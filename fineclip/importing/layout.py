"""Writing a data set in the one layout: COCO's folders, with ``data.yaml`` beside them."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fineclip.annotations import FileReport, audit_boxes
from fineclip.datasets.description import (
    DESCRIPTION_FILE,
    SPLITS,
    DataDescription,
    SplitFiles,
    name_by_folder,
    write_description,
)
from fineclip.importing.finding import printable
from fineclip.importing.source import SourceBox, SourceData, SourceImage
from fineclip.text.vocabulary import Category, Vocabulary, check_names

_WRITTEN = frozenset({*SPLITS, "annotations", DESCRIPTION_FILE})
_JPEG = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
PLACEHOLDER = "object"
"""The class of a data set that has captions alone, since a description lists at least one."""


@dataclass(frozen=True)
class Placed:
    """An image with its place in the new data set.

    Attributes:
        image: What the source says of it; its split is known.
        size: Width and height in pixels, upright.
        name: Of the new file in the folder of its split.
    """

    image: SourceImage
    size: tuple[int, int]
    name: str


def require_free(out: Path, source: Path, *, overwrite: bool) -> None:
    """Checks that a data set can be written to a folder.

    Raises:
        FileExistsError: It holds something; with ``overwrite`` something that no import writes.
        ValueError: It lies in the source, or the source in it.
    """
    new, old = out.resolve(), source.resolve()
    if new.is_relative_to(old) or old.is_relative_to(new):
        raise ValueError(
            f"OUT: {out} and SRC {source} lie in one another; choose a folder beside SRC"
        )
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"OUT: {out} is a file; choose a folder")
    there = {path.name for path in out.iterdir()} if out.exists() else set()
    if there and not overwrite:
        raise FileExistsError(
            f"OUT: {out} is not empty; --overwrite replaces it, or choose another folder"
        )
    if foreign := sorted(there - _WRITTEN):
        raise FileExistsError(
            f"OUT: {out} holds {foreign[0]}, which no import has written, so --overwrite does not "
            "replace it; choose another folder"
        )


def new_names(images: Sequence[SourceImage], root: Path, classes: Sequence[str]) -> list[str]:
    """Names of the new files: those of the source, made distinct by the folders around them.

    Label maps belong to images by their stem, so no two images share one. Suffixes of JPEG files
    become ``.jpg``. An image with a class lies in the folder of that.

    Args:
        images: The images.
        root: Folder of the source.
        classes: Names of the classes.
    """
    stems = Counter(image.path.stem.casefold() for image in images)
    taken: set[str] = set()
    names = []
    for image in images:
        path, stem = image.path, _spelt(image.path.stem)
        if stems[stem.casefold()] > 1 and path.is_relative_to(root):
            stem = "_".join([*map(_spelt, path.relative_to(root).parts[:-1]), stem])
        number, tried = 1, stem
        while tried.casefold() in taken:
            number += 1
            tried = f"{stem}_{number}"
        taken.add(tried.casefold())
        suffix = path.suffix.lower()
        folder = "" if image.label is None else f"{_folder(classes[image.label])}/"
        names.append(f"{folder}{tried}{'.jpg' if suffix in _JPEG else suffix}")
    return names


def _spelt(name: str) -> str:
    """A name without what annotation files cannot hold: bytes that are no UTF-8, backslashes."""
    return printable(name).replace("\\", "_")


def _folder(name: str) -> str:
    return re.sub(r"[/\\\0]", "_", name).lstrip(".") or "_"


def vocabulary_of(source: SourceData, name: str, where: str) -> Vocabulary:
    """The classes of a source as a vocabulary.

    Raises:
        ValueError: Two names read the same in prompts, or one is no name.
    """
    names = source.classes or [PLACEHOLDER]
    try:
        check_names(names, f"{where}: classes")
    except ValueError as error:
        raise ValueError(f"{error}; --classes names them anew, in label order") from None
    categories = [Category(n, synonyms=(n, *source.synonyms.get(n, ()))) for n in names]
    return Vocabulary(name, tuple(categories), source=where)


def write_data(
    folder: Path,
    out: Path,
    source: SourceData,
    vocabulary: Vocabulary,
    placed: Sequence[Placed],
    *,
    link: bool,
    progress: Callable[[int, int], None],
) -> list[FileReport]:
    """Writes images, annotations and description.

    Args:
        folder: Where; it is empty, and ``out`` in the end.
        out: What messages call it.
        source: What was read.
        vocabulary: Its classes.
        placed: Its images.
        link: Link the image files instead of copying them.
        progress: Called with the number of files written and in all.

    Returns:
        What the audit of annotations says of each split that has boxes.

    Raises:
        OSError: Files cannot be written, or not linked.
        ValueError: Boxes that the audit refuses.
    """
    (folder / "annotations").mkdir()
    reports, splits = [], {}
    done = 0
    for split in SPLITS:
        chosen = [entry for entry in placed if entry.image.split == split]
        if not chosen:
            continue
        data, report = _annotations(chosen, source, vocabulary, out, split)
        reports.append(report)
        files = SplitFiles(
            folder / split, annotations=folder / "annotations" / f"instances_{split}.json"
        )
        _write_json(files.annotations, data)
        if source.read_mask is not None:
            files = replace(files, masks=folder / "annotations" / f"semantic_{split}")
            files.masks.mkdir()  # type: ignore[union-attr]
        if any(entry.image.captions for entry in chosen):
            files = replace(files, captions=folder / "annotations" / f"captions_{split}.json")
            _write_json(files.captions, _captions(chosen, data["images"]))
        (folder / split).mkdir()
        for entry in chosen:
            _place(entry, folder / split, link=link)
            if files.masks is not None and source.read_mask is not None:
                _write_mask(source.read_mask, entry, files.masks)
            done += 1
            progress(done, len(placed))
        splits[split] = files
    write_description(
        DataDescription(
            folder / DESCRIPTION_FILE, name_by_folder(out), vocabulary, splits, source.ignore_label
        )
    )
    return reports


def _place(entry: Placed, folder: Path, *, link: bool) -> None:
    target = folder / entry.name
    target.parent.mkdir(exist_ok=True)
    if not link:
        shutil.copyfile(entry.image.path, target)
        return
    try:
        os.link(entry.image.path.resolve(), target)
    except OSError as error:
        raise OSError(
            f"{entry.image.path} cannot be linked into {folder} ({error.strerror}); do not --link"
        ) from None


def _write_mask(read: Callable[[Path], np.ndarray], entry: Placed, folder: Path) -> None:
    assert entry.image.mask is not None
    name = f"{Path(entry.name).stem}.png"
    Image.fromarray(read(entry.image.mask)).save(folder / name, "PNG")


def _write_json(path: Path | None, data: Any) -> None:
    assert path is not None
    path.write_text(json.dumps(data, separators=(",", ":")), encoding="utf-8")


def _annotations(
    chosen: Sequence[Placed], source: SourceData, vocabulary: Vocabulary, out: Path, split: str
) -> tuple[dict[str, Any], FileReport]:
    """The file of boxes of a split; without any, that of images and their sizes."""
    images: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    places: list[str] = []
    for number, placed in enumerate(chosen, 1):
        width, height = placed.size
        images.append({"id": number, "file_name": placed.name, "width": width, "height": height})
        scale = (width, height) if source.relative else (1, 1)
        for box in placed.image.boxes:
            entries.append({"id": len(entries) + 1, "image_id": number, **_entry(box, scale)})
            places.append(box.place)
    categories = [{"id": index, "name": n} for index, n in enumerate(vocabulary.names, 1)]
    data = {"images": images, "annotations": entries, "categories": categories}
    data, report = audit_boxes(data, str(out / "annotations" / f"instances_{split}.json"))
    for finding in report.findings:
        finding.examples = [_at_source(example, places) for example in finding.examples]
    try:
        report.raise_if_refused()
    except ValueError as error:
        raise ValueError(f"{error}; is it another format (--from)?") from None
    return data, report


def _entry(box: SourceBox, scale: tuple[int, int]) -> dict[str, Any]:
    width, height = scale
    x, y, w, h = box.box
    mask, area = box.mask, box.area
    if isinstance(mask, list):
        mask = [[c * scale[i % 2] for i, c in enumerate(polygon)] for polygon in mask]
        area = sum(map(_polygon_area, mask)) if area is None else area
    return {
        "category_id": box.label + 1,
        "bbox": [round(value, 4) for value in (x * width, y * height, w * width, h * height)],
        "iscrowd": int(box.ignored),
        "segmentation": [] if mask is None else mask,
        "area": w * width * h * height if area is None else area,
    }


def _polygon_area(polygon: Sequence[float]) -> float:
    x, y = np.array(polygon[::2]), np.array(polygon[1::2])
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _at_source(example: str, places: Sequence[str]) -> str:
    """Of an example in the file that is made: where it is in the source."""
    return re.sub(r"annotations\[(\d+)\]", lambda found: places[int(found[1])], example)


def _captions(chosen: Sequence[Placed], images: Sequence[dict[str, Any]]) -> dict[str, Any]:
    entries = [
        {"id": number, "image_id": image["id"], "caption": caption}
        for number, (image, caption) in enumerate(
            (
                (image, caption)
                for placed, image in zip(chosen, images, strict=True)
                for caption in placed.image.captions
            ),
            1,
        )
    ]
    return {"images": list(images), "annotations": entries}
