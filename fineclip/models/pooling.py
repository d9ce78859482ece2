"""Pooling of dense maps over boxes and masks, for packed regions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align


def pack_regions(per_image: list[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Concatenates per-image region tensors and records where each region came from.

    Args:
        per_image: One (n_i, ...) tensor per image.
        device: Where the result lives.

    Returns:
        The packed (R, ...) tensor and ``region_image`` (R,) int64, the image index of each row.
    """
    counts = torch.tensor([len(regions) for regions in per_image], device=device)
    region_image = torch.repeat_interleave(torch.arange(len(per_image), device=device), counts)
    return torch.cat([regions.to(device) for regions in per_image]), region_image


def pool_boxes(dense: Tensor, boxes: Tensor, region_image: Tensor) -> Tensor:
    """RoIAlign with a 1 x 1 output, adaptive sampling and half-pixel alignment.

    Args:
        dense: (B, D, h, w) dense map.
        boxes: (R, 4) xyxy normalised to [0, 1] of the network input.
        region_image: (R,) int64 image index of each box.

    Returns:
        (R, D) in the map's dtype, not normalised.
    """
    height, width = dense.shape[-2:]
    cells = boxes.to(dense.dtype) * boxes.new_tensor([width, height] * 2, dtype=dense.dtype)
    rois = torch.cat([region_image[:, None].to(dense.dtype), cells], dim=1)  # (R, 5)
    pooled = roi_align(
        dense, rois, output_size=1, spatial_scale=1.0, sampling_ratio=-1, aligned=True
    )
    return pooled.flatten(1)  # (R, D, 1, 1) -> (R, D)


def pool_masks(dense: Tensor, masks: Tensor, region_image: Tensor) -> Tensor:
    """Mean of a dense map under masks.

    Args:
        dense: (B, D, h, w) dense map.
        masks: (R, H, W) bool or 0/1, at any resolution: a cell of the grid counts when any of its
            pixels does. On the grid itself they may be the share of each cell that counts.
        region_image: (R,) int64 image index of each mask, ascending.

    Returns:
        (R, D), not normalised; zeros for an empty mask.
    """
    grid = dense.shape[-2:]
    weights = masks.to(dense.dtype)
    if masks.shape[-2:] != grid:
        weights = F.adaptive_max_pool2d(weights, grid)
    weights = weights.flatten(1)  # (R, N)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-6)
    # One batched product instead of a copy of the map per region: slot k is the image's k-th mask.
    counts = torch.bincount(region_image, minlength=len(dense))
    slot = (
        torch.arange(len(weights), device=dense.device) - (counts.cumsum(0) - counts)[region_image]
    )
    slots = int(counts.max()) if len(weights) else 0
    padded = weights.new_zeros(len(dense), slots, weights.shape[1])
    padded = padded.index_put((region_image, slot), weights)
    return torch.bmm(padded, dense.flatten(2).transpose(1, 2))[region_image, slot]
