"""The batch of region-text data, and how samples become one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict, cast, get_args

import torch
from torch import Tensor

from fineclip.datasets.shaped_crops import ShapedCrops
from fineclip.registry import FUNCTIONS


class RegionTextBatch(TypedDict, total=False):
    """A batch; fields that were not asked for are absent. R regions are packed image by image.

    Attributes:
        images: (B, 3, S, S) uint8.
        texts: (B, T) int64 caption tokens.
        boxes: (R, 4) float32 xyxy normalised to [0, 1] of the input.
        region_image: (R,) int64 image index of each region.
        crops: (R, 3, s, s) uint8, or R of several shapes.
        region_texts: (R, T) int64 region caption tokens.
        region_labels: (R,) int64 category of each region, -1 for none.
        global_views: (B, V_t, 3, G, G) uint8.
        local_views: (B, V_s, 3, L, L) uint8.
        skipped: (file, reason) of the images left out of this batch.
    """

    images: Tensor
    texts: Tensor
    boxes: Tensor
    region_image: Tensor
    crops: Tensor | ShapedCrops
    region_texts: Tensor
    region_labels: Tensor
    global_views: Tensor
    local_views: Tensor
    skipped: list[tuple[str, str]]


_Rows = Literal[
    "images",
    "texts",
    "boxes",
    "region_texts",
    "region_labels",
    "global_views",
    "local_views",
]
_ROWS: tuple[_Rows, ...] = get_args(_Rows)


def without_rows(sample: RegionTextBatch) -> RegionTextBatch:
    """The fields of a sample, each with no row."""
    return cast(RegionTextBatch, {name: cast(Tensor, rows)[:0] for name, rows in sample.items()})


@FUNCTIONS.register_module()
def collate_region_text(samples: Sequence[RegionTextBatch]) -> RegionTextBatch:
    """Packs samples of :class:`RegionTextDataset` into one batch, without any padding."""
    batch: RegionTextBatch = {"skipped": [item for s in samples for item in s["skipped"]]}
    for name in _ROWS:
        if name in samples[0]:
            batch[name] = _joined([sample[name] for sample in samples])
    if "crops" in samples[0]:
        crops = [sample["crops"] for sample in samples]
        if isinstance(crops[0], ShapedCrops):
            batch["crops"] = ShapedCrops.joined(cast(list[ShapedCrops], crops))
        else:
            batch["crops"] = _joined(cast(list[Tensor], crops))
    if "region_image" in samples[0]:
        shift, rows = 0, []
        for sample in samples:
            rows.append(sample["region_image"] + shift)
            shift += len(sample["images"])
        batch["region_image"] = torch.cat(rows)
    return batch


def _joined(parts: list[Tensor]) -> Tensor:
    # An empty tensor among them could decide on the memory format of all.
    return torch.cat([part for part in parts if len(part)] or parts[:1])
