"""Detection annotation files, checked where they are read.

pycocotools and lvis answer a malformed file with a KeyError at best, and with boxes left out at
worst.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fineclip.files import read_json, require_keys

_ANNOTATION_KEYS = ("id", "image_id", "category_id", "bbox", "area")
_COCO_IMAGE_KEYS = ("id", "file_name", "width", "height")
_LVIS_IMAGE_KEYS = (
    "id",
    "coco_url",
    "width",
    "height",
    "neg_category_ids",
    "not_exhaustive_category_ids",
)
_LVIS_CATEGORY_KEYS = ("frequency",)


def read_annotations(path: str | Path, *, lvis: bool = False) -> dict[str, Any]:
    """Reads a COCO or LVIS instances file and checks what everything after it relies on.

    Args:
        path: JSON file.
        lvis: Ask for LVIS's additional keys.

    Returns:
        Its content; ``annotations`` is an empty list where the file has none (test sets).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, lacks a key, or has an annotation of no category; the message
            names file, place and key.
    """
    data = read_json(path, "annotations")
    kind = "LVIS" if lvis else "COCO"
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected {kind} annotations, a JSON object")
    for key in ("images", "categories"):
        if not isinstance(data.get(key), list):
            raise ValueError(f"{path}: expected {kind} annotations with the list {key!r}")
    if not data["categories"]:
        raise ValueError(f"{path}: categories: the list is empty, so no box has a class")
    annotations = data.setdefault("annotations", [])
    if not isinstance(annotations, list):
        raise ValueError(f"{path}: annotations: expected a list")
    category_keys = ("id", "name", *(_LVIS_CATEGORY_KEYS if lvis else ()))
    image_keys = _LVIS_IMAGE_KEYS if lvis else _COCO_IMAGE_KEYS
    _check_entries(data["categories"], category_keys, f"{path}: categories")
    _check_entries(data["images"], image_keys, f"{path}: images")
    _check_entries(annotations, _ANNOTATION_KEYS, f"{path}: annotations")
    known = {category["id"] for category in data["categories"]}
    for index, annotation in enumerate(annotations):
        if annotation["category_id"] not in known:
            raise ValueError(
                f"{path}: annotations[{index}]: category_id {annotation['category_id']} is not "
                "among the file's categories"
            )
    return data


def _check_entries(entries: Sequence[Any], keys: Sequence[str], where: str) -> None:
    wanted = set(keys)
    for index, entry in enumerate(entries):
        # A set comparison, as there are a million annotations; the message is made when needed.
        if not isinstance(entry, dict) or not wanted <= entry.keys():
            require_keys(entry, keys, f"{where}[{index}]")
