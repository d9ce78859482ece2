"""Crops of several shapes in one batch, each shape a tensor of its own: nothing is padded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fineclip.datasets.resampling import stack_images


class ShapedCrops(NamedTuple):
    """R crops, grouped by shape. A named tuple, so that loaders and devices take it as it is.

    Attributes:
        groups: (n_i, 3, h_i, w_i), one per shape that there may be. Without crops of a shape n_i
            is 0: processes that share a model call it equally often, whatever they have drawn.
        places: (R,) int64, which row of all groups, one after another, each crop is.
    """

    groups: list[Tensor]
    places: Tensor

    @classmethod
    def of(cls, crops: Sequence[Tensor], shapes: Sequence[tuple[int, int]]) -> ShapedCrops:
        """Groups crops.

        Args:
            crops: (3, h, w) each, of one of the shapes; uint8 where there are none.
            shapes: (h, w) of the groups in pixels.
        """
        dtype = crops[0].dtype if crops else torch.uint8
        rows: dict[tuple[int, ...], list[int]] = {shape: [] for shape in shapes}
        for row, crop in enumerate(crops):
            rows[tuple(crop.shape[1:])].append(row)
        order = torch.tensor([row for group in rows.values() for row in group], dtype=torch.int64)
        return cls(
            [
                stack_images([crops[row] for row in group])
                if group
                else torch.zeros(0, 3, *shape, dtype=dtype)
                for shape, group in rows.items()
            ],
            order.argsort(),
        )

    @classmethod
    def joined(cls, parts: Sequence[ShapedCrops]) -> ShapedCrops:
        """The crops of all parts, which have the same shapes, one part after another."""
        crops: list[Tensor] = []
        for part in parts:
            rows = [row for group in part.groups for row in group]
            crops += [rows[place] for place in part.places.tolist()]
        return cls.of(crops, [(group.shape[2], group.shape[3]) for group in parts[0].groups])

    def embedded(self, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """(R, D) embeddings in the order of the crops, of an encoder that takes one shape."""
        return torch.cat([encode(group) for group in self.groups])[self.places]
