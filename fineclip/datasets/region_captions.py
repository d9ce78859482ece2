"""Captions of regions, by annotation id or by the reference release's file-name keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from fineclip.annotations import read_region_captions


class RegionCaptions:
    """Looks up the caption of a region.

    Keys are annotation ids (as strings, JSON allows no others), or the reference release's
    ``NAME_x_y_w_h.jpg``: the image's file name, with or without folder and extension, and the box
    xywh in pixels, truncated to integers. Ids and boxes are those of the annotation file, before
    they were mended.

    Args:
        path: JSON object mapping keys to captions.

    Attributes:
        report: What was found out about the file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is no JSON object of strings.
    """

    def __init__(self, path: str | Path) -> None:
        self._captions, self.report = read_region_captions(path)

    def for_boxes(
        self, annotations: Iterable[tuple[Mapping[str, Any], str]], where: str
    ) -> list[str | None]:
        """The captions of all boxes of a data set.

        Args:
            annotations: COCO annotations, each with the file name of its image.
            where: What messages call the annotations.

        Returns:
            One per annotation, None where there is none.

        Raises:
            ValueError: No box of several has a caption, or two boxes have the id of one.
        """
        found: list[str | None] = []
        used: set[str] = set()
        for annotation, file_name in annotations:
            key = self._key(annotation, file_name)
            if key in used and key == str(_given(annotation, "id")):
                raise ValueError(
                    f"region captions: {self.report.file}: {key!r} is the id of several "
                    f"annotations in {where}, the last of {file_name}"
                )
            if key is not None:
                used.add(key)
            found.append(None if key is None else self._captions[key])
        if found and not self._captions:
            raise ValueError(f"region captions: {self.report.file}: there is no caption in it")
        if found and not used:
            raise ValueError(
                f"region captions: {self.report.file}: none of the {len(self._captions)} keys, "
                f"the first {next(iter(self._captions))!r}, is of a box in {where}"
            )
        if unused := len(self._captions) - len(used):
            first = next(repr(key) for key in self._captions if key not in used)
            self.report.add("noted", "region captions that match no box", first, count=unused)
        return found

    def _key(self, annotation: Mapping[str, Any], file_name: str) -> str | None:
        id_ = _given(annotation, "id")
        if id_ is not None and str(id_) in self._captions:
            return str(id_)
        box = "_".join(str(int(value)) for value in _given(annotation, "bbox"))
        path = PurePosixPath(file_name)
        for name in (file_name, path.name, path.stem):
            if (key := f"{name}_{box}.jpg") in self._captions:
                return key
        return None


def _given(annotation: Mapping[str, Any], key: str) -> Any:
    """A value as the annotation file has it, mended or not."""
    return annotation.get(f"given_{key}", annotation.get(key))
