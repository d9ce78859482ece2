"""Labelled boxes for box classification, from COCO panoptic or COCO instance annotations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fineclip.annotations import (
    FileReport,
    announce,
    decode_segmentation,
    file_name_of,
    mask_of,
    read_boxes,
    read_panoptic,
)
from fineclip.datasets.evaluation_batch import Skipped
from fineclip.datasets.files import require_some_image
from fineclip.datasets.transforms import ImageTransform, as_transform
from fineclip.files import require_folder
from fineclip.images import UnusableImageError, read_image
from fineclip.paths import inside
from fineclip.registry import DATASETS
from fineclip.text.vocabulary import Vocabulary, as_vocabulary


@dataclass(frozen=True)
class _Image:
    """One image of the annotation file; ``regions`` are the file's own entries."""

    image_id: int | str
    file_name: str
    width: int
    height: int
    regions: Sequence[Mapping[str, Any]]
    panoptic_file: str = ""


class _LabelledBoxes(Dataset):
    """What the two sources of boxes share; see :class:`PanopticRegionDataset`."""

    def __init__(
        self,
        annotation_file: str | Path,
        image_root: str | Path,
        transform: ImageTransform | Mapping[str, Any],
        vocabulary: str | Path | Vocabulary | Mapping[str, Any] | Sequence[str] | None,
        min_area: float,
        max_area: float,
        max_regions: int,
        mask_grid: tuple[int, int] | None,
    ) -> None:
        if not 0 <= min_area <= max_area:
            raise ValueError(
                f"min_area must be between 0 and max_area, got {min_area} and {max_area}"
            )
        if max_regions < 1:
            raise ValueError(f"max_regions must be at least 1, got {max_regions}")
        self.transform = as_transform(transform)
        self.mask_grid = mask_grid
        self.min_area, self.max_area, self.max_regions = min_area, max_area, max_regions
        self.annotation_file = Path(annotation_file)
        data, report = self._read(self.annotation_file)
        announce(report)
        self.image_root = require_folder(image_root, "images")
        in_file = Vocabulary.from_coco(data, annotation_file)
        self.vocabulary = (
            in_file if vocabulary is None else as_vocabulary(vocabulary).with_ids_of(in_file)
        )
        self.images = [image for image in self._parse(data) if image.regions]
        if not self.images:
            raise ValueError(f"{annotation_file}: no image has an annotated region")
        self._check_categories(in_file)
        require_some_image(
            self.image_root, [image.file_name for image in self.images], str(annotation_file)
        )

    def _read(self, file: Path) -> tuple[dict[str, Any], FileReport]:
        raise NotImplementedError

    def _parse(self, data: Mapping[str, Any]) -> list[_Image]:
        raise NotImplementedError

    def _boxes(self, image: _Image, skipped: Skipped) -> np.ndarray:
        """(n, 4) float64 xyxy in pixels of the original image; a row of NaN: no box."""
        raise NotImplementedError

    def _masks(self, image: _Image, indices: np.ndarray) -> Iterator[np.ndarray]:
        """(H, W) bool of each of some regions, all False where it has no mask."""
        raise NotImplementedError

    def _covered(
        self, path: Path, image: _Image, keep: np.ndarray, skipped: Skipped
    ) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """Masks on the grid (m, h, w), areas (m,) in pixels, and which of ``keep`` have any."""
        assert self.mask_grid is not None
        shares, areas = [], []
        keep = keep.copy()
        for index, mask in zip(
            np.flatnonzero(keep), self._masks(image, np.flatnonzero(keep)), strict=True
        ):
            area = np.count_nonzero(mask)
            if area:
                shares.append(self.transform.map_mask(mask, self.mask_grid))
                areas.append(float(area))
            else:
                keep[index] = False
                skipped.append((str(path), f"region {index} has no mask"))
        grids = torch.stack(shares) if shares else torch.zeros(0, *self.mask_grid)
        return grids, np.array(areas, dtype=np.float64), keep

    def _check_categories(self, in_file: Vocabulary) -> None:
        used = {region["category_id"] for image in self.images for region in image.regions}
        for id_ in sorted(used):
            name = in_file.categories[in_file.index_of_id[id_]].name
            index = self.vocabulary.index_of_id.get(id_)
            if index is None:
                raise ValueError(
                    f"{self.annotation_file}: category {id_} ({name!r}) is not in the vocabulary "
                    f"{self.vocabulary.name!r}; choose one that covers the annotations"
                )
            if name not in (self.vocabulary.names[index], *self.vocabulary.synonyms[index]):
                raise ValueError(
                    f"{self.annotation_file}: category {id_} is {name!r} here but "
                    f"{self.vocabulary.names[index]!r} in the vocabulary "
                    f"{self.vocabulary.name!r}; to rename a class, list the file's name among "
                    "its synonyms"
                )

    @cached_property
    def metainfo(self) -> dict[str, Any]:
        """``classes`` (the K names), ``vocabulary`` and ``image_root``, for the metrics."""
        return {
            "classes": self.vocabulary.names,
            "vocabulary": self.vocabulary,
            "image_root": str(self.image_root),
        }

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = self.images[index]
        skipped: Skipped = []
        path = inside(self.image_root, image.file_name)
        try:
            pixels = read_image(path, (image.width, image.height))
            boxes = self._boxes(image, skipped)
        except UnusableImageError as error:
            return {"skipped": [(error.file, error.reason)]}
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        clipped = boxes.clip(0, [image.width, image.height] * 2)
        # A comparison with NaN is False, so rows without a box go too.
        keep = (areas >= self.min_area) & (areas <= self.max_area)
        outside = keep & ~(clipped[:, 2:] > clipped[:, :2]).all(axis=1)
        if outside.any():
            skipped.append((str(path), f"{outside.sum()} boxes lie outside the image"))
        keep &= ~outside
        labels = np.array(
            [self.vocabulary.index_of_id[r["category_id"]] for r in image.regions[: len(boxes)]],
            dtype=np.int64,
        )
        regions: dict[str, Tensor] = {}
        if self.mask_grid is None:
            areas = areas[keep]
            regions["boxes"] = self.transform.map_boxes(
                torch.from_numpy(clipped[keep]).float(), image.width, image.height
            )
        else:
            try:
                regions["masks"], areas, keep = self._covered(path, image, keep, skipped)
            except UnusableImageError as error:
                return {"skipped": [(error.file, error.reason)]}
        return {
            "image": self.transform(pixels),
            **regions,
            "data_sample": {
                "image_id": image.image_id,
                "file_name": image.file_name,
                "labels": labels[keep],
                "areas": areas,
                "pixel_boxes": clipped[keep],
            },
            "skipped": skipped,
        }


@DATASETS.register_module()
class PanopticRegionDataset(_LabelledBoxes):
    """The regions of COCO panoptic segments, as CLIPSelf and FineCLIP classify them.

    A thing's box is the one in the annotation. A stuff segment's box spans its smallest to its
    largest pixel index, so it is one pixel short on either axis: the published protocol, kept.
    Of each image the first ``max_regions`` segments in file order are looked at (crowds
    included), then boxes with an area outside [``min_area``, ``max_area``] are dropped, without
    replacement. Images without segments are left out.

    Items are dicts for :func:`fineclip.datasets.evaluation_batch.collate_evaluation` with
    ``data_sample`` = ``image_id``, ``file_name``, ``labels`` (n,) int64 class indices of the
    vocabulary, ``areas`` (n,) float64 areas of boxes (with ``mask_grid`` of masks) in square
    pixels of the original image, and ``pixel_boxes`` (n, 4) float64 xyxy in its pixels. An image
    or PNG that cannot be used gives an item with ``skipped`` alone.

    Args:
        annotation_file: COCO panoptic JSON.
        image_root: Folder of the images.
        panoptic_root: Folder of the segment PNGs (id = R + 256 G + 65536 B).
        transform: Geometry of the network input, or a dict of its arguments.
        vocabulary: Candidate classes: anything :func:`fineclip.text.as_vocabulary` takes, matched
            by category id, or by name where it has no ids. None: the categories of the file, in
            ascending id.
        min_area: Smallest box area in square pixels of the original image.
        max_area: Largest box area in square pixels of the original image.
        max_regions: Segments of an image that are looked at.
        mask_grid: (h, w) cells of the dense map: the same segments come as masks, not as boxes.

    Raises:
        FileNotFoundError: A missing file or folder, or none of the images in ``image_root``.
        ValueError: A malformed annotation file, a category that the vocabulary lacks or
            names differently, or contradictory limits.
    """

    def __init__(
        self,
        annotation_file: str | Path,
        image_root: str | Path,
        panoptic_root: str | Path,
        *,
        transform: ImageTransform | Mapping[str, Any],
        vocabulary: str | Path | Vocabulary | Mapping[str, Any] | Sequence[str] | None = None,
        min_area: float = 8 * 8,
        max_area: float = 1024 * 1024,
        max_regions: int = 100,
        mask_grid: tuple[int, int] | None = None,
    ) -> None:
        self.panoptic_root = require_folder(panoptic_root, "panoptic PNGs")
        super().__init__(
            annotation_file,
            image_root,
            transform,
            vocabulary,
            min_area,
            max_area,
            max_regions,
            mask_grid,
        )
        require_some_image(
            self.panoptic_root, [i.panoptic_file for i in self.images], str(annotation_file)
        )
        # A class without an id is not in the file: nothing has it, it is only a candidate.
        undecided = [
            category.name
            for category in self.vocabulary.categories
            if category.isthing is None and category.id is not None
        ]
        if undecided:
            raise ValueError(
                f"vocabulary {self.vocabulary.source} does not say whether {undecided[0]!r} is a "
                "thing: panoptic regions need 'isthing' for every category"
            )

    def _read(self, file: Path) -> tuple[dict[str, Any], FileReport]:
        return read_panoptic(file)

    def _parse(self, data: Mapping[str, Any]) -> list[_Image]:
        infos = _image_infos(data)
        return [
            _Image(
                *infos[entry["image_id"]],
                regions=entry["segments_info"],
                panoptic_file=entry["file_name"],
            )
            for entry in data["annotations"]
        ]

    def _boxes(self, image: _Image, skipped: Skipped) -> np.ndarray:
        segments = image.regions[: self.max_regions]
        boxes = _annotated_boxes(segments)
        things = self.vocabulary.isthing
        stuff = [
            index
            for index, segment in enumerate(segments)
            if not things[self.vocabulary.index_of_id[segment["category_id"]]]
        ]
        if not stuff:
            return boxes
        path = inside(self.panoptic_root, image.panoptic_file)
        ids = self._segment_ids(image)
        for index in stuff:
            box = pixel_span_box(ids == segments[index]["id"])
            if box is None:
                skipped.append((str(path), f"segment {segments[index]['id']} has no pixels"))
            boxes[index] = (np.nan,) * 4 if box is None else box
        return boxes

    def _masks(self, image: _Image, indices: np.ndarray) -> Iterator[np.ndarray]:
        ids = self._segment_ids(image)
        for index in indices:
            yield ids == image.regions[index]["id"]

    def _segment_ids(self, image: _Image) -> np.ndarray:
        """(H, W) int32 segment id of each pixel."""
        path = inside(self.panoptic_root, image.panoptic_file)
        rgb = np.asarray(read_image(path))
        if rgb.shape[:2] != (image.height, image.width):
            raise UnusableImageError(
                path,
                f"is {rgb.shape[1]} x {rgb.shape[0]} pixels, the image "
                f"{image.width} x {image.height}",
            )
        return rgb.astype(np.int32) @ np.array([1, 256, 65536], dtype=np.int32)


@DATASETS.register_module()
class InstanceRegionDataset(_LabelledBoxes):
    """The boxes of a COCO instances file, for data without panoptic annotations.

    Like :class:`PanopticRegionDataset` with annotated boxes only: the first ``max_regions``
    annotations of each image in file order, crowds included, then the limits on the box area.

    Args:
        annotation_file: COCO instances JSON (LVIS's format does as well).
        image_root: Folder of the images.
        transform: Geometry of the network input, or a dict of its arguments.
        vocabulary: As in :class:`PanopticRegionDataset`.
        min_area: Smallest box area in square pixels of the original image.
        max_area: Largest box area in square pixels of the original image.
        max_regions: Annotations of an image that are looked at.
        mask_grid: As in :class:`PanopticRegionDataset`.

    Raises:
        FileNotFoundError: A missing file or folder, or none of the images in ``image_root``.
        ValueError: A malformed annotation file, a category that the vocabulary lacks or
            names differently, or contradictory limits.
    """

    def __init__(
        self,
        annotation_file: str | Path,
        image_root: str | Path,
        *,
        transform: ImageTransform | Mapping[str, Any],
        vocabulary: str | Path | Vocabulary | Mapping[str, Any] | Sequence[str] | None = None,
        min_area: float = 8 * 8,
        max_area: float = 1024 * 1024,
        max_regions: int = 100,
        mask_grid: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(
            annotation_file,
            image_root,
            transform,
            vocabulary,
            min_area,
            max_area,
            max_regions,
            mask_grid,
        )

    def _read(self, file: Path) -> tuple[dict[str, Any], FileReport]:
        return read_boxes(file)

    def _parse(self, data: Mapping[str, Any]) -> list[_Image]:
        infos = _image_infos(data)
        regions: dict[Any, list[Mapping[str, Any]]] = {image_id: [] for image_id in infos}
        for annotation in data["annotations"]:
            regions[annotation["image_id"]].append(annotation)
        return [_Image(*infos[image_id], regions=found) for image_id, found in regions.items()]

    def _boxes(self, image: _Image, skipped: Skipped) -> np.ndarray:
        return _annotated_boxes(image.regions[: self.max_regions])

    def _masks(self, image: _Image, indices: np.ndarray) -> Iterator[np.ndarray]:
        for index in indices:
            mask = mask_of(image.regions[index])
            if mask is None:
                yield np.zeros((image.height, image.width), dtype=bool)
                continue
            try:
                found = decode_segmentation(mask, image.height, image.width, f"region {index}")
            except ValueError as error:
                path = inside(self.image_root, image.file_name)
                raise UnusableImageError(path, str(error)) from None
            yield found


def pixel_span_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Box from the smallest to the largest pixel index of a mask.

    Args:
        mask: (H, W) bool.

    Returns:
        (x0, y0, x1, y1) in pixels where x1, y1 are the largest indices, not one past them; None
        for an empty mask.
    """
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _annotated_boxes(regions: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(n, 4) float64 xyxy in pixels from COCO's xywh."""
    boxes = np.array([region["bbox"] for region in regions], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _image_infos(data: Mapping[str, Any]) -> dict[Any, tuple[Any, str, int, int]]:
    """(id, file name, width, height) by image id."""
    return {
        image["id"]: (image["id"], file_name_of(image), image["width"], image["height"])
        for image in data["images"]
    }
