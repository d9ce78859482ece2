"""Files of COCO panoptic segments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fineclip.annotations.boxes import audit_categories, audit_images
from fineclip.annotations.matching import convert_ids, refuse_unmatched
from fineclip.annotations.reading import read_audited
from fineclip.annotations.report import FileReport
from fineclip.annotations.schema import (
    FILE_NAME,
    Key,
    any_list,
    box,
    check_entry,
    entries,
    identifier,
    integer,
)

_ANNOTATION = (Key("image_id", identifier), FILE_NAME, Key("segments_info", any_list))
_KEYS = {"bbox", "segments_info"}
_SEGMENT = (Key("id", integer), Key("category_id", integer), Key("bbox", box))


def read_panoptic(path: str | Path) -> tuple[dict[str, Any], FileReport]:
    """Reads a file of panoptic segments.

    Args:
        path: COCO panoptic JSON.

    Returns:
        Its mended content, and what was mended.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or refused; the message names file and places.
    """
    return read_audited(path, "annotations", audit_panoptic)


def audit_panoptic(data: Any, file: str) -> tuple[Any, FileReport]:
    """Checks the content of a file of panoptic segments.

    Segments are the pixels of the PNGs. Their boxes are neither cut nor dropped: the published
    protocol counts the segments of an image before it looks at boxes.

    Args:
        data: Parsed JSON. Its entries are mended in place.
        file: What messages call the file.

    Returns:
        The content, and the report.
    """
    report = FileReport(file)
    images = entries(data, "images", report)
    categories = entries(data, "categories", report)
    annotations = entries(data, "annotations", report)
    segments: list[Any] = []
    for annotation in annotations:
        found = annotation.get("segments_info") if isinstance(annotation, dict) else None
        segments += found if isinstance(found, list) else []
    convert_ids(images, annotations, "image_id", report)
    convert_ids(categories, segments, "category_id", report)
    known_images = audit_images(images, report)
    known_categories = audit_categories(categories, report)
    image_places = {id_: image.place for id_, image in known_images.items()}
    used: set[int] = set()
    for index, annotation in enumerate(annotations):
        place = f"annotations[{index}]"
        if isinstance(annotation, dict) and annotation.keys() & _KEYS == {"bbox"}:
            text = "no 'segments_info': these are instance annotations, use InstanceRegionDataset"
            report.add("refused", "instance annotations, not panoptic ones", f"{place}: {text}")
            continue
        if not check_entry(annotation, _ANNOTATION, report, "annotations", index):
            continue
        if annotation["image_id"] not in image_places:
            value = annotation["image_id"]
            refuse_unmatched("image_id", value, image_places, "images", place, report)
        list_name = f"{place}: segments_info"
        for number, segment in enumerate(annotation["segments_info"]):
            if not check_entry(segment, _SEGMENT, report, list_name, number):
                continue
            used.add(segment["category_id"])
            if segment["category_id"] not in known_categories:
                at = f"{list_name}[{number}]"
                value = segment["category_id"]
                refuse_unmatched("category_id", value, known_categories, "categories", at, report)
    for id_, index in known_categories.items():
        if id_ not in used:
            report.add("noted", "categories without segments", repr(categories[index]["name"]))
    report.counts |= {"images": len(images), "segments": len(segments)}
    report.counts["categories"] = len(categories)
    return data, report
