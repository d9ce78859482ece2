"""The evaluation data set of a task, found in a COCO-format folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fineclip.datasets.coco_layout import EvaluationFiles, find_files
from fineclip.datasets.panoptic_regions import InstanceRegionDataset, PanopticRegionDataset
from fineclip.datasets.retrieval import RetrievalDataset
from fineclip.datasets.transforms import ImageTransform
from fineclip.registry import DATASETS
from fineclip.text.tokenizers import Tokenizer
from fineclip.text.vocabulary import Vocabulary


@DATASETS.register_module()
def box_regions(
    data_root: str | Path | None = None,
    split: str | None = None,
    *,
    transform: ImageTransform | Mapping[str, Any],
    vocabulary: str | Vocabulary | Mapping[str, Any] | Sequence[str] | None = None,
    files: EvaluationFiles | Mapping[str, Any] | None = None,
    mask_grid: tuple[int, int] | None = None,
) -> PanopticRegionDataset | InstanceRegionDataset:
    """The labelled boxes of a split: panoptic segments, or instances where there are none.

    Args:
        data_root: Root of a COCO-format folder.
        split: Name of the split; see :func:`find_files`.
        transform: Geometry of the network input.
        vocabulary: Candidate classes; None: those of the annotations.
        files: The files to use, or a dict of them, in place of ``data_root`` and ``split``.
        mask_grid: (h, w) cells of the dense map: the same regions as masks, not as boxes.

    Raises:
        FileNotFoundError: The files are missing.
        ValueError: Malformed annotations or an unknown vocabulary.
    """
    files = _given(files) or _find(data_root, split)
    if files.panoptic and files.panoptic_root:
        return PanopticRegionDataset(
            files.panoptic,
            files.image_root,
            files.panoptic_root,
            transform=transform,
            vocabulary=vocabulary,
            mask_grid=mask_grid,
        )
    if files.instances:
        return InstanceRegionDataset(
            files.instances,
            files.image_root,
            transform=transform,
            vocabulary=vocabulary,
            mask_grid=mask_grid,
        )
    name = files.image_root.name
    task = "mask_classification" if mask_grid else "box_classification"
    raise FileNotFoundError(
        f"{task} needs panoptic_{name}.json with its folder panoptic_{name}/ of "
        f"PNGs, or instances_{name}.json; neither is there"
    )


@DATASETS.register_module()
def image_captions(
    data_root: str | Path | None = None,
    split: str | None = None,
    *,
    transform: ImageTransform | Mapping[str, Any],
    tokenizer: str | Tokenizer,
    files: EvaluationFiles | Mapping[str, Any] | None = None,
) -> RetrievalDataset:
    """The images of a split with all of their captions.

    Args:
        data_root: Root of a COCO-format folder.
        split: Name of the split; see :func:`find_files`.
        transform: Geometry of the network input.
        tokenizer: The model's tokenizer, or the name of its model.
        files: The files to use, or a dict of them, in place of ``data_root`` and ``split``.

    Raises:
        FileNotFoundError: The files are missing.
        ValueError: Malformed annotations.
    """
    files = _given(files) or _find(data_root, split)
    if files.captions is None:
        raise FileNotFoundError(
            f"retrieval needs captions_{files.image_root.name}.json, which is not there"
        )
    return RetrievalDataset(
        files.captions, files.image_root, transform=transform, tokenizer=tokenizer
    )


def _given(files: EvaluationFiles | Mapping[str, Any] | None) -> EvaluationFiles | None:
    if not isinstance(files, Mapping):
        return files
    return EvaluationFiles(**{key: Path(file) for key, file in files.items() if file is not None})


def _find(data_root: str | Path | None, split: str | None) -> EvaluationFiles:
    if data_root is None:
        raise ValueError("set data_root to the root of a COCO-format folder, or give files")
    return find_files(data_root, split)
