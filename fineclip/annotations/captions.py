"""Captions of images (COCO's format) and of regions (an object of keys and captions)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fineclip.annotations.boxes import note_named_twice
from fineclip.annotations.matching import by_id, convert_ids, refuse_unmatched
from fineclip.annotations.reading import read_audited
from fineclip.annotations.report import FileReport
from fineclip.annotations.schema import (
    FILE_NAME,
    Key,
    Unfit,
    check_entry,
    entries,
    identifier,
    path,
    text,
)

_IMAGE = (Key("id", identifier), FILE_NAME)
_CAPTION = (Key("image_id", identifier), Key("caption", text))


def _one_or_several(value: Any) -> str | Sequence[str]:
    """A caption or several."""
    try:
        for caption in value if isinstance(value, list | tuple) else [value]:
            text(caption)
        return value
    except Unfit:
        raise Unfit("one or several captions, strings") from None


_LISTED = (Key("image", path, mended=FILE_NAME.mended), Key("caption", _one_or_several))


@dataclass
class Captions:
    """Captions of images.

    Attributes:
        images: File name by id, in the order of the file; empty if they were not asked for.
        by_image: Captions by the image's id, as written, none of them blank.
    """

    images: dict[Any, str] = field(default_factory=dict)
    by_image: dict[Any, list[str]] = field(default_factory=lambda: defaultdict(list))


def read_captions(file: str | Path, *, images: bool) -> tuple[Captions, FileReport]:
    """Reads a file of captions.

    Args:
        file: COCO captions JSON.
        images: See :func:`audit_captions`.

    Returns:
        The captions, and what was mended and dropped.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or refused.
    """
    return read_audited(file, "captions", partial(audit_captions, images=images))


def audit_captions(data: Any, file: str, *, images: bool) -> tuple[Captions, FileReport]:
    """Checks the content of a file of captions.

    Args:
        data: Parsed JSON. Its entries are mended in place.
        file: What messages call the file.
        images: The file must list its images, as evaluation needs it. Otherwise captions are
            matched with the images of another file.

    Returns:
        The captions, and the report.
    """
    report, captions = FileReport(file), Captions()
    listed = entries(data, "images", report) if images else []
    annotations = entries(data, "annotations", report)
    convert_ids(listed, annotations, "image_id", report)
    usable = [
        (index, image)
        for index, image in enumerate(listed)
        if check_entry(image, _IMAGE, report, "images", index)
    ]
    places = by_id(usable, "images", report)
    note_named_twice(usable, report)
    captions.images = {image["id"]: image["file_name"] for _, image in usable}
    for index, annotation in enumerate(annotations):
        place = f"annotations[{index}]"
        if not check_entry(annotation, _CAPTION, report, "annotations", index):
            continue
        if images and annotation["image_id"] not in places:
            value = annotation["image_id"]
            refuse_unmatched("image_id", value, places, "images", place, report)
        elif not annotation["caption"].strip():
            report.add("dropped", "empty captions", place)
        else:
            captions.by_image[annotation["image_id"]].append(annotation["caption"])
    for id_, index in places.items():
        if id_ not in captions.by_image:
            report.add("noted", "images without caption", f"images[{index}]")
    if images:
        report.counts["images"] = len(places)
    report.counts["captions"] = sum(map(len, captions.by_image.values()))
    return captions, report


def audit_caption_list(data: Sequence[Any], file: str) -> tuple[dict[str, list[str]], FileReport]:
    """Checks a list of images with captions.

    Args:
        data: Entries ``{"image": file name, "caption": string or list of strings}``; those of one
            image are joined. Mended in place.
        file: What messages call the file.

    Returns:
        Captions by file name, in the order of first appearance, none of them blank; the report.
    """
    report = FileReport(file)
    captions: defaultdict[str, list[str]] = defaultdict(list)
    for index, entry in enumerate(data):
        if not check_entry(entry, _LISTED, report, "captions", index):
            continue
        own = captions[entry["image"]]
        given = entry["caption"]
        for caption in [given] if isinstance(given, str) else given:
            if caption.strip():
                own.append(caption)
            else:
                report.add("dropped", "empty captions", f"captions[{index}]")
    report.counts |= {"images": len(captions), "captions": sum(map(len, captions.values()))}
    return captions, report


def read_region_captions(file: str | Path) -> tuple[dict[str, str], FileReport]:
    """Reads captions of regions.

    Args:
        file: JSON object of captions by annotation id or by ``NAME_x_y_w_h.jpg``.

    Returns:
        The captions by key, and what was dropped.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or no object of strings.
    """
    return read_audited(file, "region captions", audit_region_captions)


def audit_region_captions(data: Any, file: str) -> tuple[dict[str, str], FileReport]:
    """Checks captions of regions.

    Args:
        data: Parsed JSON.
        file: What messages call the file.

    Returns:
        The captions by key, without blank ones, and the report.
    """
    report = FileReport(file)
    captions: dict[str, str] = {}
    if not isinstance(data, dict):
        kind = type(data).__name__
        report.add("refused", f"expected a JSON object of key: caption, got {kind}")
        data = {}
    for key, caption in data.items():
        try:
            if text(caption).strip():
                captions[key] = caption
            else:
                report.add("dropped", "empty captions", repr(key))
        except Unfit as error:
            place = f"{key!r} must map to {error}, got {caption!r}"
            report.add("refused", "a caption is no string", place)
    report.counts["region captions"] = len(captions)
    return captions, report
