"""The indices of pycocotools and lvis over annotations that were checked, in one read."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from lvis import LVIS
from mmdet.datasets.api_wrappers import COCO

from detection.datasets.annotations import read_annotations


class CocoAnnotations(COCO):
    """mmdet's COCO API over a checked file.

    Args:
        annotation_file: The file; None for an empty index, as pycocotools needs for results.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is malformed.
    """

    def __init__(self, annotation_file: str | Path | None = None) -> None:
        super().__init__()
        if annotation_file is not None:
            self.dataset = read_annotations(annotation_file)
            with redirect_stdout(StringIO()):  # pycocotools prints; our data sets do not
                self.createIndex()
            self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs


class LvisAnnotations(LVIS):
    """The LVIS API over a checked file.

    Args:
        annotation_path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is malformed or no LVIS file.
    """

    def _load_json(self, path: str | Path) -> dict[str, Any]:
        return read_annotations(path, lvis=True)
