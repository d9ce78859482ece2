"""RoIAlign as one sparse matrix product: for CPUs, whose kernels walk every channel by itself."""

from __future__ import annotations

import warnings

import torch
from mmcv.ops import RoIAlign
from torch import Tensor, nn

# Weights of one box's bins are dense for a moment: this many boxes at a time bound their memory.
_BOXES_AT_A_TIME = 128


class SparseRoIAlign(nn.Module):
    """What mmcv's average-pooling ``RoIAlign`` computes, without gradient, several times faster.

    A bin is the mean of bilinear samples (He et al., Mask R-CNN, sec. 3), thus a weighted sum of
    map locations, and the weights are products of those of rows and of columns. The sums of all
    bins of all boxes are a sparse matrix times the map, channels innermost.

    Args:
        layer: The layer to stand in for.

    Raises:
        ValueError: A layer that does not average.
    """

    def __init__(self, layer: RoIAlign) -> None:
        super().__init__()
        if layer.pool_mode != "avg":
            raise ValueError(f"only average pooling is linear, got pool_mode={layer.pool_mode!r}")
        self.output_size = layer.output_size
        self.spatial_scale = layer.spatial_scale
        self.sampling_ratio = layer.sampling_ratio
        self.aligned = layer.aligned

    @torch.no_grad()
    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        """Pools boxes.

        Args:
            features: (B, C, H, W) maps.
            rois: (R, 5) image index and xyxy in pixels of the input.

        Returns:
            (R, C, h, w) float32 with ``output_size`` (h, w), channels innermost in memory; under
            autocast, too, for there are no sparse products in half precision.
        """
        with torch.autocast(features.device.type, enabled=False):
            return self._pooled(features.float(), rois)

    def _pooled(self, features: Tensor, rois: Tensor) -> Tensor:
        height, width = features.shape[-2:]
        locations = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])  # (B H W, C)
        if not len(rois):
            return features.new_zeros(0, features.shape[1], *self.output_size)
        # Boxes of a part have as many dense weights as its largest: similar ones share a part.
        order = (rois[:, 3:] - rois[:, 1:3]).amax(dim=1).argsort()
        pooled = locations.new_empty(len(rois), *self.output_size, locations.shape[1])
        for part in order.split(_BOXES_AT_A_TIME):
            weights = _sparse(self._weights(rois[part], height, width), len(locations))
            pooled[part] = (weights @ locations).view(len(part), *pooled.shape[1:])
        return pooled.permute(0, 3, 1, 2)  # (R, C, h, w)

    def _weights(self, rois: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Indices into the locations and weights, (R h w, n) each; unused weights are 0."""
        corners = rois[:, 1:].float() * self.spatial_scale - (0.5 if self.aligned else 0.0)
        sizes = (corners[:, 2:] - corners[:, :2]).clamp(min=0 if self.aligned else 1)
        rows, of_rows = self._axis(corners[:, 1], sizes[:, 1], self.output_size[0], height)
        columns, of_columns = self._axis(corners[:, 0], sizes[:, 0], self.output_size[1], width)
        first = (rois[:, 0].long() * height)[:, None, None, None, None]
        # (R, h, w, rows, columns)
        indices = (first + rows[:, :, None, :, None]) * width + columns[:, None, :, None, :]
        weights = of_rows[:, :, None, :, None] * of_columns[:, None, :, None, :]
        bins = len(rois) * self.output_size[0] * self.output_size[1]
        return indices.reshape(bins, -1), weights.reshape(bins, -1)

    def _axis(self, start: Tensor, size: Tensor, bins: int, length: int) -> tuple[Tensor, Tensor]:
        """Locations along an axis and their weights in each bin, (R, bins, n)."""
        size = size / bins
        counts = size.ceil()
        if self.sampling_ratio > 0:
            counts = torch.full_like(size, self.sampling_ratio)
        steps = torch.arange(max(1, int(counts.max())), device=size.device)
        each = counts.clamp(min=1)[:, None, None]
        at = start[:, None, None] + size[:, None, None] * (
            torch.arange(bins, device=size.device)[:, None] + (steps + 0.5) / each
        )  # (R, bins, samples)
        counted = (steps < counts[:, None, None]) & (at >= -1) & (at <= length)
        at = at.clamp(0, length - 1)
        lower = at.floor()
        fraction = at - lower
        share = counted / each
        first = lower[..., :1]
        offset = (lower - first).long()
        # Neighbouring samples share locations: all between the first and the last have a place.
        places = int(offset.max()) + 2
        weights = size.new_zeros(*at.shape[:2], places)
        weights.scatter_add_(2, offset, (1 - fraction) * share)
        weights.scatter_add_(2, offset + 1, fraction * share)
        return first.long() + torch.arange(places, device=size.device), weights


def _sparse(entries: tuple[Tensor, Tensor], columns: int) -> Tensor:
    indices, weights = entries
    kept = weights != 0
    ends = torch.zeros(len(weights) + 1, dtype=torch.long, device=weights.device)
    ends[1:] = kept.sum(1).cumsum(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            ends, indices[kept], weights[kept], (len(weights), columns), check_invariants=False
        )
