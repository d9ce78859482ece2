"""Moving a batch to the device and normalising its pixels there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from fineclip.registry import MODELS


@MODELS.register_module()
class RegionTextPreprocessor(BaseDataPreprocessor):
    """Casts a batch to the model's device; uint8 pixels become normalised float32.

    Pixels travel as uint8, a quarter of their float size, and are normalised on the device.

    Args:
        mean: Channel means for RGB in [0, 1].
        std: Channel standard deviations for RGB in [0, 1].
        non_blocking: Copy asynchronously (useful with pinned memory).
    """

    def __init__(
        self, *, mean: Sequence[float], std: Sequence[float], non_blocking: bool = True
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepares a collated batch.

        Args:
            data: Batch of :func:`fineclip.datasets.collate_region_text` or of an evaluation data
                set; float images are taken as already normalised.
            training: Unused, part of mmengine's interface.
        """
        # Which files were skipped is for the hooks, not for the model.
        batch = self.cast_data({key: value for key, value in data.items() if key != "skipped"})
        for key in ("images", "crops", "global_views", "local_views"):
            if key in batch and batch[key].dtype == torch.uint8:
                batch[key] = self.normalize(batch[key])
        return batch

    def normalize(self, pixels: Tensor) -> Tensor:
        """(..., 3, H, W) uint8 -> float32, normalised."""
        return (pixels.float() / 255 - self.mean) / self.std
