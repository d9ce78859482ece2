"""From a record of a data set to the input of a segmenter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform

from fineclip.datasets.label_maps import read_label_map
from fineclip.images import UnusableImageError, read_image
from segmentation.data.catalog import check_class_lists
from segmentation.data.registered import registered_set

_FILL = 128  # grey level of what is added to an image, as in the release


class MaskFormerSemanticDatasetMapper:
    """Reads, augments and fills up one image and its label map.

    The mapper that ``INPUT.DATASET_MAPPER_NAME: mask_former_semantic`` stands for in the release's
    configurations. Label maps are resized with the image, to the nearest pixel.

    Args:
        is_train: With labels. False: the image alone.
        augmentations: detectron2's augmentations or transforms, in order.
        num_classes: Classes of the label maps.
        ignore_label: Label of pixels without a class, and of what is filled up.
        pad_to: Side in pixels that images are filled up to, on the right and at the bottom; 0:
            they are not. Larger images stay as they are.
    """

    @configurable
    def __init__(
        self,
        is_train: bool = True,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        num_classes: int,
        ignore_label: int = 255,
        pad_to: int = 0,
    ) -> None:
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        self.pad_to = pad_to

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        """Reads ``INPUT`` and ``DATASETS.TRAIN``.

        Training: shortest side to ``MIN_SIZE_TRAIN``, random crop ``CROP`` (with its
        ``SINGLE_CATEGORY_MAX_AREA``), colours ``COLOR_AUG_SSD``, flip ``RANDOM_FLIP``, filled up
        to ``SIZE_DIVISIBILITY``. Testing: shortest side to ``MIN_SIZE_TEST``.

        Raises:
            ValueError: Class list and data sets disagree, or images are not in RGB.
        """
        if cfg.INPUT.FORMAT != "RGB":
            raise ValueError(
                f"INPUT.FORMAT is {cfg.INPUT.FORMAT!r}; CLIP takes RGB: set INPUT.FORMAT to 'RGB'"
            )
        if not is_train:
            resize = T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
            return {"is_train": False, "augmentations": [resize], "num_classes": 0}
        if not cfg.DATASETS.TRAIN:
            raise ValueError("DATASETS.TRAIN is empty: name a data set to train on")
        check_class_lists(cfg, ("TRAIN",))
        found = registered_set(cfg.DATASETS.TRAIN[0], "DATASETS.TRAIN")
        return {
            "is_train": True,
            "augmentations": _training_augmentations(cfg, found.ignore_label),
            "num_classes": len(found.class_names),
            "ignore_label": found.ignore_label,
            "pad_to": cfg.INPUT.SIZE_DIVISIBILITY,
        }

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Makes one input.

        Args:
            record: ``file_name``; in training also ``sem_seg_file_name`` and perhaps
                ``label_map`` (see :func:`fineclip.datasets.label_maps.read_label_map`).

        Returns:
            The record's other keys and ``image``: (3, H, W) uint8 RGB. In training ``sem_seg``:
            (H, W) int64 class indices or the ignore label. Otherwise ``height`` and ``width`` of
            the upright image in the file, in pixels.

        Raises:
            UnusableImageError: The image is missing, or one of both files cannot be decoded.
            FileNotFoundError: The label map is missing.
            ValueError: Image and label map differ in size, or a label is no class; the message
                names the file.
        """
        record = dict(record)
        image = _read_image(record["file_name"])
        label_file, label_map = record.pop("sem_seg_file_name", None), record.pop("label_map", None)
        labels = None
        if self.is_train:
            labels = self._read_labels(label_file, label_map, record["file_name"], image.shape[:2])
        else:
            record.update(height=image.shape[0], width=image.shape[1])
        augmented = T.AugInput(image, sem_seg=labels)
        self.augmentations(augmented)
        record["image"] = self._fill(augmented.image.transpose(2, 0, 1), _FILL)
        if labels is not None:
            record["sem_seg"] = self._fill(augmented.sem_seg.astype(np.int64), self.ignore_label)
        return record

    def _read_labels(
        self,
        label_file: str | None,
        label_map: Sequence[int] | None,
        image_file: str,
        size: tuple[int, int],
    ) -> np.ndarray:
        if label_file is None:
            raise ValueError(
                f"{image_file}: no 'sem_seg_file_name' in its record; training needs a data set "
                "with label maps"
            )
        labels = read_label_map(
            label_file,
            num_classes=self.num_classes,
            ignore_label=self.ignore_label,
            label_map=label_map,
        )
        if labels.shape != size:
            # Of a photograph, most likely.
            turned = " upright, as EXIF says" if labels.shape == size[::-1] else ""
            raise ValueError(
                f"label map {label_file} has {labels.shape[1]} x {labels.shape[0]} pixels, its "
                f"image {image_file} {size[1]} x {size[0]}{turned}"
            )
        # detectron2 resizes whole numbers other than uint8 as floating point ones only.
        return labels if labels.dtype == np.uint8 else labels.astype(np.float32)

    def _fill(self, values: np.ndarray, value: int) -> torch.Tensor:
        maps = torch.from_numpy(np.ascontiguousarray(values))
        missing = [max(0, self.pad_to - side) for side in maps.shape[-2:]]
        return F.pad(maps, (0, missing[1], 0, missing[0]), value=value)


def build_dataset_mapper(cfg: CfgNode, is_train: bool = True) -> MaskFormerSemanticDatasetMapper:
    """Makes the mapper that ``INPUT.DATASET_MAPPER_NAME`` names.

    Raises:
        ValueError: Unknown name, or settings that do not go together.
    """
    name = cfg.INPUT.DATASET_MAPPER_NAME
    if name != "mask_former_semantic":
        raise ValueError(f"INPUT.DATASET_MAPPER_NAME is {name!r}; known: mask_former_semantic")
    return MaskFormerSemanticDatasetMapper(cfg, is_train)


def _training_augmentations(cfg: CfgNode, ignore_label: int) -> list[T.Augmentation | T.Transform]:
    settings = cfg.INPUT
    steps: list[T.Augmentation | T.Transform] = [
        T.ResizeShortestEdge(
            settings.MIN_SIZE_TRAIN, settings.MAX_SIZE_TRAIN, settings.MIN_SIZE_TRAIN_SAMPLING
        )
    ]
    if settings.CROP.ENABLED:
        steps.append(
            T.RandomCrop_CategoryAreaConstraint(
                settings.CROP.TYPE,
                settings.CROP.SIZE,
                settings.CROP.SINGLE_CATEGORY_MAX_AREA,
                ignore_label,
            )
        )
    if settings.COLOR_AUG_SSD:
        steps.append(ColorAugSSDTransform(img_format=settings.FORMAT))
    if settings.RANDOM_FLIP != "none":
        horizontal = settings.RANDOM_FLIP == "horizontal"
        steps.append(T.RandomFlip(horizontal=horizontal, vertical=not horizontal))
    return steps


def _read_image(file: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB."""
    try:
        return np.array(read_image(Path(file)))
    except UnusableImageError as error:
        raise UnusableImageError(f"image {file}", error.reason) from None
