"""The files of a data set, checked together before anybody spends a GPU on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fineclip.annotations import (
    Audit,
    FileReport,
    audit_boxes,
    audit_captions,
    audit_file,
    audit_panoptic,
    file_name_of,
)
from fineclip.datasets.description import DataDescription, SplitFiles
from fineclip.datasets.label_maps import read_label_map
from fineclip.datasets.label_pairs import list_pairs
from fineclip.datasets.region_captions import RegionCaptions
from fineclip.files import require_folder, write_atomically
from fineclip.images import IMAGE_SUFFIXES, UnusableImageError, naming_file
from fineclip.paths import inside
from fineclip.text.vocabulary import Vocabulary, as_vocabulary

_ORIENTATION = 274  # the EXIF tag; from 5 on, the picture is shown with its sides exchanged


@dataclass
class CheckedData:
    """What was found out.

    Attributes:
        reports: One per file.
        written: The mended annotation file, if one was asked for and could be written.
    """

    reports: list[FileReport] = field(default_factory=list)
    written: Path | None = None

    @property
    def refused(self) -> bool:
        """Whether a file cannot be used."""
        return any(report.verdict == "refused" for report in self.reports)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        verdicts = [report.verdict for report in self.reports]
        worst = next((v for v in ("refused", "mended") if v in verdicts), "clean")
        return {
            "verdict": worst,
            "reports": [report.as_json() for report in self.reports],
            "written": None if self.written is None else str(self.written),
        }

    def lines(self) -> list[str]:
        """For people."""
        lines = [line for report in self.reports for line in report.lines()]
        if self.written is not None:
            lines.append(f"wrote {self.written}")
        return [*lines, f"verdict: {self.as_json()['verdict']}"]


def check_data(
    annotations: str | Path,
    *,
    image_root: str | Path | None = None,
    captions: str | Path | None = None,
    region_captions: str | Path | None = None,
    panoptic: str | Path | None = None,
    vocabulary: str | Path | Vocabulary | None = None,
    fix: str | Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckedData:
    """Checks files as training and evaluation would read them.

    Args:
        annotations: Boxes: COCO instances, LVIS or proposals JSON.
        image_root: Folder of the images, whose headers are read.
        captions: COCO captions JSON.
        region_captions: Captions of boxes, see
            :class:`fineclip.datasets.region_captions.RegionCaptions`.
        panoptic: COCO panoptic JSON.
        vocabulary: What the file's categories must be among.
        fix: Write the mended annotations here, unless they are refused.
        progress: Called with the number of images looked at and in all.

    Returns:
        A report per file, the annotations' first.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: The vocabulary is unknown.
    """
    # Proposals need no categories; what names a category must have it in any case.
    audit = partial(audit_boxes, labelled=False)
    data, report = _audited(annotations, "annotations", audit)
    checked = CheckedData([report])
    usable = report.verdict != "refused"
    if vocabulary is not None and usable:
        _check_vocabulary(data, vocabulary, report)
    if image_root is not None and usable:
        _check_images(data["images"], require_folder(image_root, "images"), report, progress)
    if captions is not None:
        checked.reports.append(_check_captions(captions, data if usable else None))
    if region_captions is not None:
        checked.reports.append(_check_region_captions(region_captions, data if usable else None))
    if panoptic is not None:
        checked.reports.append(_audited(panoptic, "panoptic annotations", audit_panoptic)[1])
    if fix is not None and report.verdict != "refused":
        checked.written = Path(fix)
        write_atomically(fix, json.dumps(data, separators=(",", ":")))
    return checked


def check_described(
    description: DataDescription,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckedData:
    """Checks all files of all splits of a described data set.

    Args:
        description: What says where they are.
        progress: See :func:`check_data`.

    Returns:
        The reports, split by split.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: No split has anything but images.
    """
    checked = CheckedData()
    for split, files in description.splits.items():
        named = [kind for kind in _KINDS if getattr(files, kind) is not None]
        description.require(split, *named)
        if files.annotations is not None:
            checked.reports += check_data(
                files.annotations,
                image_root=files.images,
                captions=files.captions,
                region_captions=files.region_captions,
                vocabulary=description.vocabulary,
                progress=progress,
            ).reports
        elif files.captions is not None:
            audit = partial(audit_captions, images=False)
            checked.reports.append(_audited(files.captions, "captions", audit)[1])
        if files.masks is not None:
            checked.reports.append(_check_label_maps(description, files, progress))
    if not checked.reports:
        raise ValueError(f"{description.file}: no split has any of {', '.join(_KINDS)}")
    return checked


_KINDS = ("annotations", "masks", "captions", "region_captions")


def _check_label_maps(
    description: DataDescription, files: SplitFiles, progress: Callable[[int, int], None]
) -> FileReport:
    """Reads all label maps of a split, and the sizes of their images."""
    assert files.masks is not None  # it was looked at before
    report = FileReport(str(files.masks))
    try:
        pairs = list_pairs(files.images, files.masks, image_suffix=None, complete=False)
    except FileNotFoundError as error:
        report.add("refused", str(error))
        return report
    seen: set[int] = set()
    for done, pair in enumerate(pairs, 1):
        file = Path(pair["sem_seg_file_name"])
        try:
            labels = read_label_map(
                file,
                num_classes=len(description.vocabulary),
                ignore_label=description.ignore_label,
            )
            size = _size_as_shown(Path(pair["file_name"]))
        except UnusableImageError as error:
            report.add("dropped", "images or label maps that cannot be opened", str(error))
        except ValueError as error:
            report.add("refused", "label maps with values that are no class", str(error))
        else:
            seen.update(np.unique(labels).tolist())
            if size != labels.shape[::-1]:
                place = f"{file} is {labels.shape[1]} x {labels.shape[0]}, its image "
                place += f"{size[0]} x {size[1]}"
                report.add("refused", "label maps of another size than their image", place)
        progress(done, len(pairs))
    for k, name in enumerate(description.vocabulary.names):
        if k not in seen:
            report.add("noted", "classes that no pixel has", repr(name))
    images = sum(path.suffix.lower() in IMAGE_SUFFIXES for path in files.images.iterdir())
    if without := images - len(pairs):
        report.add("noted", "images without label map", count=without)
    return report


def _audited(path: str | Path, what: str, audit: Audit[Any]) -> tuple[Any, FileReport]:
    """As ``audit_file``; a file that is not JSON is refused like any other."""
    try:
        return audit_file(path, what, audit)
    except ValueError as error:
        report = FileReport(str(path))
        report.add("refused", str(error))
        return None, report


def _check_vocabulary(
    data: Mapping[str, Any], vocabulary: str | Path | Vocabulary, report: FileReport
) -> None:
    known = as_vocabulary(vocabulary)
    names = {category.name for category in (*known.categories, *known.unused)}
    used = {annotation.get("category_id") for annotation in data["annotations"]}
    for category in data.get("categories", ()):
        if category["name"] not in names and category["id"] in used:
            reason = f"annotated categories that the vocabulary {known.name!r} lacks"
            report.add("refused", reason, f"category {category['id']}, {category['name']!r}")
    listed = {category["name"] for category in data.get("categories", ())}
    for name in known.names:
        if name not in listed:
            report.add("noted", f"classes of {known.name!r} that the file lacks", repr(name))


def _check_images(
    images: Sequence[Mapping[str, Any]],
    root: Path,
    report: FileReport,
    progress: Callable[[int, int], None],
) -> None:
    found = 0
    for done, image in enumerate(images, 1):
        path = inside(root, file_name_of(image))
        stated = (image["width"], image["height"])
        try:
            size = _size_as_shown(path)
        except UnusableImageError as error:
            report.add("dropped", "images that are missing or cannot be opened", str(error))
        else:
            found += 1
            if size != stated:
                place = f"{path} is {size[0]} x {size[1]}, stated {stated[0]} x {stated[1]}"
                report.add("dropped", "images of another size than stated", place)
        progress(done, len(images))
    if images and not found:
        report.add("refused", f"none of the {len(images)} images is in {root}")


def _size_as_shown(path: Path) -> tuple[int, int]:
    if not path.is_file():
        raise UnusableImageError(path, "no such file")
    with naming_file(path), Image.open(path) as image:  # reads the header alone
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION, 1) >= 5
    return (height, width) if turned else (width, height)


def _check_captions(path: str | Path, data: Mapping[str, Any] | None) -> FileReport:
    audit = partial(audit_captions, images=False)
    captions, report = _audited(path, "captions", audit)
    if data is None or report.verdict == "refused":
        return report
    known = {image["id"] for image in data["images"]}
    matched = captions.by_image.keys() & known
    for id_, texts in captions.by_image.items():
        if id_ not in known:
            reason = "captions of images that are not listed"
            report.add("noted", reason, f"image_id {id_!r}", count=len(texts))
    if not matched:
        report.add("refused", f"none is of an image of {len(known)} in the annotations")
    elif len(matched) < len(known):
        report.add("noted", "images without caption", count=len(known) - len(matched))
    return report


def _check_region_captions(path: str | Path, data: Mapping[str, Any] | None) -> FileReport:
    try:
        lookup = RegionCaptions(path)
    except ValueError as error:
        report = FileReport(str(path))
        report.add("refused", str(error))
        return report
    if data is None:
        return lookup.report
    files = {image["id"]: file_name_of(image) for image in data["images"]}
    boxes = [(a, files[a["image_id"]]) for a in data["annotations"]]
    try:
        found = lookup.for_boxes(boxes, "the annotations")
    except ValueError as error:
        lookup.report.add("refused", str(error))
        return lookup.report
    if without := found.count(None):
        lookup.report.add("noted", "boxes without region caption", count=without)
    return lookup.report
