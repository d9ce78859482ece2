"""How many annotated boxes the boxes of a data set find: recall without regard to categories."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fineclip.annotations import file_name_of, read_boxes
from fineclip.datasets.region_source import ImageRecord

_LIMITS = (1, 10, 100)
"""Boxes of an image, the best ones, that may find something."""


class ProposalRecall:
    """Compares boxes with annotated ones, image by image.

    Args:
        annotations: COCO annotations of the same images, which go by the names of their files.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is malformed.
    """

    def __init__(self, annotations: str | Path) -> None:
        self._file = str(annotations)
        data, _ = read_boxes(annotations, labelled=False)
        self._annotations: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        for annotation in data["annotations"]:
            self._annotations[annotation["image_id"]].append(annotation)
        self._images = {_key(file_name_of(image)): image for image in data["images"]}
        self._seen: dict[Any, Sequence[Mapping[str, Any]]] = {}

    def add(self, record: ImageRecord) -> None:
        """Takes the boxes of an image; they are in order, best first, where they have no score."""
        image = self._images.get(_key(record.image["file_name"]))
        if image is not None:
            self._seen[image["id"]] = list(record.annotations)

    def as_json(self) -> dict[str, Any]:
        """AR over IoU 0.5 to 0.95, as COCO has it, by boxes of an image and by annotated size.

        Raises:
            ValueError: None of the images is annotated.
        """
        if not self._seen:
            raise ValueError(f"{self._file}: it has none of the data set's images, by file name")
        stats = self._evaluated()
        names = [f"AR@{limit}" for limit in _LIMITS]
        names += [f"AR@100 {size}" for size in ("small", "medium", "large")]
        return {
            "images": len(self._seen),
            "annotated_boxes": sum(len(self._annotations[id_]) for id_ in self._seen),
            "boxes": sum(map(len, self._seen.values())),
            **{
                name: round(float(value), 4)
                for name, value in zip(names, stats, strict=True)
                if value >= 0  # there is no such box
            },
        }

    def _evaluated(self) -> np.ndarray:
        """(6,) AR by limit, then by size, -1 where there is none."""
        images = [{**one} for one in self._images.values() if one["id"] in self._seen]
        true = [
            {**annotation, "category_id": 1} for id_ in self._seen for annotation in
            self._annotations[id_]
        ]  # fmt: skip
        found = [
            {
                "image_id": id_,
                "category_id": 1,
                "bbox": annotation["bbox"],
                "score": annotation.get("score", 1 / (2 + place)),
            }
            for id_, annotations in self._seen.items()
            for place, annotation in enumerate(annotations)
        ]
        if not found or not true:
            return np.full(6, 0.0 if true else -1.0)
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO()
            coco.dataset = {"images": images, "annotations": true, "categories": [{"id": 1}]}
            coco.createIndex()
            evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
            evaluation.params.useCats = 0
            evaluation.params.maxDets = list(_LIMITS)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation.stats[6:]


def _key(file_name: str) -> str:
    return PurePosixPath(file_name).name
