"""Reading PASCAL-Context's merged annotation file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from fineclip.files import read_json, require_keys


def context_images(file: Path) -> list[dict[str, Any]]:
    """Reads the validation images of ``trainval_merged.json``.

    Args:
        file: That file.

    Returns:
        One dict per image of phase "val", ordered by name: ``stem`` (its name without suffix),
        ``height`` and ``width`` in pixels, ``segments``: (category id, segmentation) in the file's
        order.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON or lacks a key; the message names file and place.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist; expected PASCAL-Context's merged annotation "
            "trainval_merged.json (https://cs.stanford.edu/~roozbeh/pascal-context)"
        )
    data = read_json(file, "PASCAL-Context annotations")
    require_keys(data, ("images", "annos_segmentation"), str(file))
    images: dict[Any, dict[str, Any]] = {}
    for i, entry in enumerate(data["images"]):
        require_keys(
            entry, ("image_id", "file_name", "height", "width", "phase"), f"{file}: images[{i}]"
        )
        if entry["phase"] == "val":
            images[entry["image_id"]] = {
                "stem": Path(entry["file_name"]).stem,
                "height": entry["height"],
                "width": entry["width"],
                "segments": [],
            }
    if not images:
        raise ValueError(f'{file}: no image has the phase "val"')
    for i, segment in enumerate(data["annos_segmentation"]):
        require_keys(
            segment,
            ("image_id", "category_id", "segmentation"),
            f"{file}: annos_segmentation[{i}]",
        )
        if segment["image_id"] in images:
            images[segment["image_id"]]["segments"].append(
                (segment["category_id"], segment["segmentation"])
            )
    return sorted(images.values(), key=lambda image: image["stem"])


def decode_segmentation(segmentation: Any, height: int, width: int, where: str) -> np.ndarray:
    """Decodes one segment.

    Args:
        segmentation: COCO's run-length code, compressed or not, or polygons.
        height: Of the image in pixels, for polygons and uncompressed code.
        width: Of the image in pixels.
        where: What messages call the segment's place.

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
