"""Files of boxes: COCO instances, LVIS, proposals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fineclip.annotations.masks import mend_mask
from fineclip.annotations.matching import by_id, convert_ids, refuse_unmatched
from fineclip.annotations.reading import read_audited
from fineclip.annotations.report import FileReport, Kind
from fineclip.annotations.schema import (
    FILE_NAME,
    Key,
    Unfit,
    address,
    area,
    box,
    check_entry,
    entries,
    flag,
    identifier,
    integer,
    list_of_integers,
    name,
    side,
)

_SIZED_IMAGE = (Key("id", identifier), Key("width", side), Key("height", side))
_ADDRESS = Key("coco_url", address)
_LVIS_IMAGE = (
    _ADDRESS,
    replace(FILE_NAME, required=False, nullable=True),
    Key("neg_category_ids", list_of_integers),
    Key("not_exhaustive_category_ids", list_of_integers),
)
_CATEGORY = (
    Key("id", integer),
    Key("name", name),
    Key("isthing", flag, required=False, nullable=True),
)
_LVIS_CATEGORY = (Key("frequency", name),)
_BOX = (
    Key("image_id", identifier),
    Key("bbox", box),
    Key("area", area, required=False, nullable=True),
    Key("iscrowd", flag, required=False, nullable=True),
)
_LABEL = Key("category_id", integer)

_ROUNDING = 1.0
"""Pixels that a box may stick out: COCO's own coordinates are rounded. Readers cut them anyway."""

_MOST = 0.95
"""Share of a file's boxes from which on a pattern is that of the file."""

_SOME = 0.1
"""Share of boxes that must stick out of their images before they are taken for corners."""

Entry = tuple[int, dict[str, Any]]
"""Place in its list, and the entry."""


def read_boxes(
    path: str | Path, *, labelled: bool = True, boxes: bool = True, lvis: bool = False
) -> tuple[dict[str, Any], FileReport]:
    """Reads a file of boxes.

    Args:
        path: JSON file.
        labelled: See :func:`audit_boxes`.
        boxes: Likewise.
        lvis: Likewise.

    Returns:
        Its mended content, and what was mended and dropped.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or refused; the message names file and places.
    """
    audit = partial(audit_boxes, labelled=labelled, boxes=boxes, lvis=lvis)
    return read_audited(path, "annotations", audit)


def audit_boxes(
    data: Any, file: str, *, labelled: bool = True, boxes: bool = True, lvis: bool = False
) -> tuple[Any, FileReport]:
    """Checks and mends the content of a file of boxes.

    Args:
        data: Parsed JSON. Its entries are mended in place.
        file: What messages call the file.
        labelled: Boxes must be of the file's categories. Otherwise there may be no categories
            (proposals); those that a box names must exist all the same.
        boxes: Look at the boxes as well, not at the images alone.
        lvis: Ask for LVIS's additional keys.

    Returns:
        The mended content, and the report. Annotations all have ``id`` from 1 on, ``area``,
        ``iscrowd`` and ``segmentation`` (an empty list without a mask). Boxes lie inside their
        image up to rounding, and have an area. What region captions may be keyed by is kept
        beside it where it was changed: ``given_id`` and ``given_bbox``. Where the report refuses
        the file, the content is of no use.
    """
    report = FileReport(file)
    images = entries(data, "images", report)
    categories = entries(data, "categories", report, required=labelled)
    annotations = entries(data, "annotations", report, required=False) if boxes else []
    if not isinstance(data, dict):
        return data, report
    if labelled and not categories and isinstance(data.get("categories"), list):
        report.add("refused", "categories: the list is empty, so no box has a class")
    convert_ids(images, annotations, "image_id", report)
    convert_ids(categories, annotations, "category_id", report)
    category_places = audit_categories(categories, report, lvis=lvis)
    known_images = audit_images(images, report, lvis=lvis)
    if not boxes or (report.verdict == "refused" and not known_images):
        return data, report
    checked = _check_boxes(
        annotations, known_images, category_places, report, labelled=labelled, lvis=_is_lvis(images)
    )
    kept = list(_fit_into_images(checked, known_images, report))
    _number(kept, report)
    masks = sum(bool(entry["segmentation"]) for _, entry in kept)
    if 0 < masks < len(kept):
        report.add("noted", "boxes without a mask", count=len(kept) - masks)
    report.counts |= {"images": len(images), "boxes": len(kept), "masks": masks}
    report.counts["categories"] = len(categories)
    _note_unused(kept, known_images, categories, category_places, report)
    return {**data, "annotations": [entry for _, entry in kept]}, report


@dataclass(frozen=True)
class KnownImage:
    """An image that boxes can refer to.

    Attributes:
        place: In the file's list.
        width: In pixels.
        height: In pixels.
    """

    place: int
    width: int
    height: int


def audit_images(
    images: Sequence[Any], report: FileReport, *, lvis: bool = False
) -> dict[Any, KnownImage]:
    """Checks and mends entries of images with their size.

    Args:
        images: The entries, mended in place.
        report: Receives what was found.
        lvis: Ask for LVIS's keys in place of a file name.

    Returns:
        The usable ones by id.
    """
    usable: list[Entry] = []
    for index, image in enumerate(images):
        addressed = lvis or (
            isinstance(image, dict) and "file_name" not in image and "coco_url" in image
        )
        where = (_LVIS_IMAGE if lvis else (_ADDRESS,)) if addressed else (FILE_NAME,)
        if check_entry(image, (*_SIZED_IMAGE, *where), report, "images", index):
            usable.append((index, image))
    note_named_twice(usable, report)
    places = by_id(usable, "images", report)
    sizes = {i["id"]: (i["width"], i["height"]) for _, i in usable}
    return {id_: KnownImage(place, *sizes[id_]) for id_, place in places.items()}


def note_named_twice(images: Sequence[Entry], report: FileReport) -> None:
    """Notes images that have the same file as another one.

    Args:
        images: Place and entry, checked.
        report: Receives them.
    """
    seen: dict[str, int] = {}
    for index, image in images:
        first = seen.setdefault(file_name_of(image), index)
        if first != index:
            place = f"images[{first}] and images[{index}] ({file_name_of(image)})"
            report.add("noted", "images named twice", place)


def audit_categories(
    categories: Sequence[Any], report: FileReport, *, lvis: bool = False
) -> dict[Any, int]:
    """Checks and mends entries of categories.

    Args:
        categories: The entries, mended in place.
        report: Receives what was found.
        lvis: Ask for LVIS's keys.

    Returns:
        Places of the usable ones by id.
    """
    keys = (*_CATEGORY, *_LVIS_CATEGORY) if lvis else _CATEGORY
    usable = [
        (index, category)
        for index, category in enumerate(categories)
        if check_entry(category, keys, report, "categories", index)
    ]
    names: dict[str, int] = {}
    for index, category in usable:
        first = names.setdefault(category["name"], index)
        if first != index:
            report.add(
                "refused",
                "categories: two with one name",
                f"categories[{first}] (id {categories[first]['id']}) and categories[{index}] "
                f"(id {category['id']}) have the same name {category['name']!r}",
            )
    return by_id(usable, "categories", report)


def file_name_of(image: Mapping[str, Any]) -> str:
    """The file of an image; LVIS has none, its images lie in two folders that coco_url names."""
    if "file_name" in image:
        return image["file_name"]
    return "/".join(image["coco_url"].split("/")[-2:])


def mask_of(annotation: Mapping[str, Any]) -> Any:
    """The mask of a box of a mended file, None if it has none."""
    return annotation.get("segmentation") or None


def _is_lvis(images: Sequence[Any]) -> bool:
    return bool(images) and isinstance(images[0], dict) and "neg_category_ids" in images[0]


def _check_boxes(
    annotations: Sequence[Any],
    images: Mapping[Any, KnownImage],
    categories: Mapping[Any, int],
    report: FileReport,
    *,
    labelled: bool,
    lvis: bool,
) -> Iterator[Entry]:
    """The usable annotations, mended but for what depends on the image's size."""
    keys = (*_BOX, _LABEL if labelled else Key("category_id", integer, required=False))
    image_places = {id_: image.place for id_, image in images.items()}
    proposals = not categories and not any(
        isinstance(entry, dict) and entry.get("segmentation") for entry in annotations
    )
    for index, entry in enumerate(annotations):
        place = f"annotations[{index}]"
        if isinstance(entry, dict) and "segments_info" in entry:
            text = "these are panoptic annotations, use PanopticRegionDataset"
            report.add("refused", "panoptic annotations, not boxes", f"{place}: {text}")
            continue
        if not check_entry(entry, keys, report, "annotations", index):
            continue
        if entry["image_id"] not in images:
            refuse_unmatched("image_id", entry["image_id"], image_places, "images", place, report)
            continue
        category = entry.get("category_id")
        if (categories or labelled) and category is not None and category not in categories:
            refuse_unmatched("category_id", category, categories, "categories", place, report)
            continue
        if "iscrowd" not in entry:
            entry["iscrowd"] = 0
            if not lvis:  # whose format has no such key
                report.add("mended", "iscrowd missing, set to 0", place)
        if entry.get("segmentation") is None:
            kind: Kind = "noted" if proposals else "mended"  # which have no masks by nature
            report.add(kind, "segmentation missing or null, left empty", place)
        yield index, entry


def _fit_into_images(
    annotations: Iterable[Entry], images: Mapping[Any, KnownImage], report: FileReport
) -> Iterator[Entry]:
    """Cuts boxes to their images, completes areas, and drops what is left without any."""
    system = _CoordinateSystem()
    for index, entry in annotations:
        image = images[entry["image_id"]]
        place = f"annotations[{index}]"
        x, y, w, h = entry["bbox"]
        try:
            mask = mend_mask(entry.get("segmentation"), image.width, image.height)
        except Unfit as error:
            text = f"{place}: 'segmentation' must be {error}"
            report.add("refused", f"annotations: 'segmentation' must be {error}", text)
            continue
        entry["segmentation"] = mask.value
        if mask.flaw:
            report.add("mended", mask.flaw, place)
        if not (w and h):
            report.add("dropped", "box without width or height", f"{place} {entry['bbox']}")
            continue
        if system.look_at(x, y, w, h, image, place):
            x0, y0 = max(x, 0), max(y, 0)
            w, h = min(x + w, image.width) - x0, min(y + h, image.height) - y0
            if w <= 0 or h <= 0:
                report.add("dropped", "box outside its image", f"{place} {entry['bbox']}")
                continue
            report.add("mended", "box beyond its image, cut to it", f"{place} {entry['bbox']}")
            entry.setdefault("given_bbox", entry["bbox"])
            entry["bbox"] = [x0, y0, w, h]
            if entry.get("area"):
                entry["area"] = min(entry["area"], w * h)
        if not entry.get("area"):
            entry["area"] = w * h
            report.add("mended", "area missing or 0, set to the box's", place)
        yield index, entry
    system.judge(report)


class _CoordinateSystem:
    """Looks at all boxes of a file for signs that they are not x, y, width, height in pixels."""

    def __init__(self) -> None:
        self.total = self.corners = self.units = 0
        self.fitting_outside = 0  # stick out, but would fit as corners
        self.examples: list[str] = []

    def look_at(
        self, x: float, y: float, w: float, h: float, image: KnownImage, place: str
    ) -> bool:
        """Counts a box; returns whether it sticks out of its image by more than rounding."""
        right, bottom = image.width + _ROUNDING, image.height + _ROUNDING
        sticks_out = x < -_ROUNDING or y < -_ROUNDING or x + w > right or y + h > bottom
        as_corners = 0 <= x < w <= right and 0 <= y < h <= bottom
        self.total += 1
        self.corners += as_corners
        self.units += max(x, y, w, h) <= 1 and min(x, y) >= 0 and min(right, bottom) > 3
        if sticks_out and as_corners:
            self.fitting_outside += 1
            if len(self.examples) < 2:
                self.examples.append(f"{place} {[x, y, w, h]} in {image.width} x {image.height}")
        elif len(self.examples) < 2 and self.units == self.total:
            self.examples.append(f"{place} {[x, y, w, h]} in {image.width} x {image.height}")
        return sticks_out

    def judge(self, report: FileReport) -> None:
        """Refuses the file if (nearly) all of its boxes speak for another system."""
        if not self.total:
            return
        if self.units >= _MOST * self.total:
            what, count = "normalised coordinates from 0 to 1", self.units
        elif self.corners >= _MOST * self.total and self.fitting_outside >= _SOME * self.total:
            what, count = "corners x0, y0, x1, y1", self.fitting_outside
        else:
            return
        text = f"boxes fit as {what} alone; x, y, width, height in pixels is expected"
        place = f"annotations: {text}: {' and '.join(self.examples)}"
        report.add("refused", text, place, count=count)


def _number(annotations: Sequence[Entry], report: FileReport) -> None:
    """Numbers the annotations from 1 if their ids are not distinct positive integers.

    pycocotools marks detections by the id they match, where 0 is none, and looks boxes up by id.
    """
    ids = [entry.get("id") for _, entry in annotations]
    if all(type(id_) is int and id_ > 0 for id_ in ids):
        if len(set(ids)) == len(ids):
            return
        reason = "annotation ids repeated"
    elif None in ids:
        reason = "annotations without id"
    elif all(type(id_) is int and id_ >= 0 for id_ in ids):
        reason = "annotation ids from 0"
        if len(set(ids)) != len(ids):
            reason += " and repeated"
    else:
        reason = "annotation ids that are no positive integers"
    for number, (_, entry) in enumerate(annotations, 1):
        entry.setdefault("given_id", entry.get("id"))
        entry["id"] = number
    report.add("mended", f"{reason}, all renumbered from 1", count=len(annotations))


def _note_unused(
    annotations: Sequence[Entry],
    images: Mapping[Any, KnownImage],
    categories: Sequence[Mapping[str, Any]],
    category_places: Mapping[Any, int],
    report: FileReport,
) -> None:
    with_boxes = {entry["image_id"] for _, entry in annotations}
    for id_, image in images.items():
        if id_ not in with_boxes:
            report.add("noted", "images without boxes", f"images[{image.place}]")
    used = {entry.get("category_id") for _, entry in annotations}
    for id_, place in category_places.items():
        if id_ not in used:
            report.add("noted", "categories without boxes", repr(categories[place]["name"]))
