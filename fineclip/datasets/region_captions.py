"""Captions of regions, by annotation id or by the reference release's file-name keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from fineclip.files import read_json


class RegionCaptions:
    """Looks up the caption of a region.

    Keys are annotation ids (as strings, JSON allows no others), or the reference release's
    ``NAME_x_y_w_h.jpg``: the image's file name, with or without folder and extension, and the box
    xywh in pixels, truncated to integers.

    Args:
        path: JSON object mapping keys to captions.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is no JSON object of strings.
    """

    def __init__(self, path: str | Path) -> None:
        captions = read_json(path, "region captions")
        if not isinstance(captions, Mapping):
            raise ValueError(f"region captions: {path} must be a JSON object of key: caption")
        for key, caption in captions.items():
            if not isinstance(caption, str):
                raise ValueError(
                    f"region captions: {path}: {key!r} must map to a string, got {caption!r}"
                )
        self._captions = captions

    def get(self, annotation: Mapping[str, Any], file_name: str) -> str | None:
        """The caption of one COCO annotation of the image ``file_name``, None if it has none."""
        caption = self._captions.get(str(annotation.get("id")))
        if caption is not None:
            return caption
        try:
            box = "_".join(str(int(value)) for value in annotation["bbox"])
        except (TypeError, ValueError, OverflowError):
            return None  # such a box is of no use anyway
        path = PurePosixPath(file_name)
        for name in (file_name, path.name, path.stem):
            caption = self._captions.get(f"{name}_{box}.jpg")
            if caption is not None:
                return caption
        return None
