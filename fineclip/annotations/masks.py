"""Segmentations of boxes: polygons and run-length codes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as mask_utils

from fineclip.annotations.schema import Unfit, number

_SHORTEST = 6  # numbers of a triangle


class MendedMask(NamedTuple):
    """A segmentation that can be used.

    Attributes:
        value: Polygons or a run-length code, the very object of the file if nothing was wrong; an
            empty list if the box has no mask.
        flaw: What was mended, empty if nothing.
    """

    value: Any
    flaw: str


def mend_mask(value: Any, width: int, height: int) -> MendedMask:
    """Checks the segmentation of a box.

    Polygons of fewer than three points are left out: pycocotools takes four numbers for a box.

    Args:
        value: Any parsed JSON; None and what is empty are no mask.
        width: Of the image in pixels.
        height: Likewise.

    Returns:
        What to use.

    Raises:
        Unfit: It is neither polygons nor a run-length code of the image's size.
    """
    if not value:
        return MendedMask([], "")
    if type(value) is dict:
        _check_code(value, width, height)
        return MendedMask(value, "")
    if type(value) is not list:
        raise Unfit("a list of polygons or a run-length code")
    return _mend_polygons(value)


def _mend_polygons(polygons: list[Any]) -> MendedMask:
    right, flaw = [], ""
    for polygon in polygons:
        if type(polygon) is not list:
            if isinstance(polygon, int | float | str):
                raise Unfit("a list of polygons (this is a flat list of numbers)")
            raise Unfit("a list of polygons, each a list of numbers")
        if len(polygon) < _SHORTEST or len(polygon) % 2:
            flaw = "polygons of fewer than three points or of half a point, left out"
            continue
        if not _finite(polygon):
            try:
                polygon = [number(coordinate) for coordinate in polygon]
            except Unfit:
                raise Unfit("polygons of finite numbers") from None
            flaw = flaw or "segmentation given as str, converted"
        right.append(polygon)
    return MendedMask(right, flaw) if flaw else MendedMask(polygons, "")


def _finite(polygon: Sequence[Any]) -> bool:
    """Whether all are numbers, none of them infinite; one pass in C over the many of a file."""
    try:
        return math.isfinite(sum(polygon))
    except (TypeError, OverflowError):
        return False


def _check_code(code: dict[str, Any], width: int, height: int) -> None:
    counts = code.get("counts")
    size = code.get("size")
    if size != [height, width]:
        raise Unfit(f"a run-length code with the image's size [height, width] [{height}, {width}]")
    if type(counts) is list:
        if any(type(n) is not int or n < 0 for n in counts) or sum(counts) != width * height:
            raise Unfit(f"a run-length code whose counts add up to {width} x {height} pixels")
    elif type(counts) is not str or not counts or not counts.isascii():
        raise Unfit("a run-length code with 'counts'")


def decode_segmentation(segmentation: Any, height: int, width: int, where: str) -> np.ndarray:
    """Decodes a mask.

    Args:
        segmentation: COCO's run-length code, compressed or not, or polygons.
        height: Of the image in pixels, for polygons and uncompressed code.
        width: Of the image in pixels.
        where: What messages call the mask's place.

    Returns:
        (h, w) bool; of the size that a run-length code states.

    Raises:
        ValueError: It is none of these.
    """
    try:
        if isinstance(segmentation, Mapping) and not isinstance(segmentation["counts"], list):
            return mask_utils.decode(segmentation).astype(bool)
        rles = mask_utils.frPyObjects(segmentation, height, width)
        merged = mask_utils.merge(rles) if isinstance(rles, list) else rles
        return mask_utils.decode(merged).astype(bool)
    except Exception as error:
        raise ValueError(f"{where}: a segmentation cannot be decoded ({error})") from None
