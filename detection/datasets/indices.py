"""The indices of pycocotools and lvis over annotations that were checked and mended."""

from __future__ import annotations

from contextlib import redirect_stdout
from copy import copy
from io import StringIO
from pathlib import Path
from typing import Any

from lvis import LVIS
from mmdet.datasets.api_wrappers import COCO

from fineclip.annotations import FileReport, announce, mask_of, read_boxes


class CocoAnnotations(COCO):
    """mmdet's COCO API over a checked file; what was mended is logged.

    Args:
        annotation_file: The file; None for an empty index, as pycocotools needs for results.

    Attributes:
        report: What was found out about the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is malformed.
    """

    report: FileReport

    def __init__(self, annotation_file: str | Path | None = None) -> None:
        super().__init__()
        if annotation_file is not None:
            self.dataset, self.report = read_boxes(annotation_file)
            announce(self.report)
            self._index()

    def for_masks(self) -> CocoAnnotations:
        """The index for an evaluation of masks, where boxes without one do not count.

        Returns:
            This one if all have masks. Otherwise those without are regions to be ignored, as
            crowds are: a detection there is neither right nor wrong.
        """
        return _ignoring_maskless(self, "iscrowd")

    def _index(self) -> None:
        with redirect_stdout(StringIO()):  # pycocotools prints; our data sets do not
            self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs


class LvisAnnotations(LVIS):
    """The LVIS API over a checked file; what was mended is logged.

    Args:
        annotation_path: The file.

    Attributes:
        report: What was found out about the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is malformed or no LVIS file.
    """

    report: FileReport

    def for_masks(self) -> LvisAnnotations:
        """See :meth:`CocoAnnotations.for_masks`."""
        return _ignoring_maskless(self, "ignore")

    def _load_json(self, path: str | Path) -> dict[str, Any]:
        data, self.report = read_boxes(path, lvis=True)
        announce(self.report)
        return data

    def _index(self) -> None:
        self._create_index()


def _ignoring_maskless(index: Any, key: str) -> Any:
    """A copy in which boxes without a mask have their rectangle for one, and ``key`` set to 1."""
    annotations = index.dataset["annotations"]
    if all(map(mask_of, annotations)):
        return index
    other = copy(index)
    other.dataset = {
        **index.dataset,
        "annotations": [
            annotation
            if mask_of(annotation)
            else {**annotation, "segmentation": [_rectangle(*annotation["bbox"])], key: 1}
            for annotation in annotations
        ],
    }
    other._index()
    return other


def _rectangle(x: float, y: float, w: float, h: float) -> list[float]:
    return [x, y, x + w, y, x + w, y + h, x, y + h]
