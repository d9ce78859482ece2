"""Moving a batch to the device and normalising its pixels there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from fineclip.registry import MODELS


@MODELS.register_module()
class CLIPPreprocessor(BaseDataPreprocessor):
    """Casts a batch to the model's device; uint8 pixels become normalised float32.

    Pixels travel as uint8, a quarter of their float size, and are normalised on the device. They
    are all that is uint8 in a batch.

    Args:
        mean: Channel means for RGB in [0, 1], as :attr:`DenseCLIP.image_mean`.
        std: Channel standard deviations for RGB in [0, 1], as :attr:`DenseCLIP.image_std`.
        non_blocking: Copy asynchronously (useful with pinned memory).
    """

    def __init__(
        self, *, mean: Sequence[float], std: Sequence[float], non_blocking: bool = True
    ) -> None:
        super().__init__(non_blocking=non_blocking)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, data: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        """Prepares a collated batch.

        Args:
            data: Batch of :func:`fineclip.datasets.collate_region_text` or of an evaluation data
                set; float images are taken as already normalised.
            training: Unused, part of mmengine's interface.
        """
        # Which files were skipped is for the hooks, not for the model.
        batch = self.cast_data({key: value for key, value in data.items() if key != "skipped"})
        return {key: self._normalized(value) for key, value in batch.items()}

    def _normalized(self, value: Any) -> Any:
        """(..., 3, H, W) uint8 -> float32, normalised, also in named tuples and lists.

        All else stays as it is.
        """
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(self._normalized, value))
        if isinstance(value, list):
            return [self._normalized(item) for item in value]
        if not isinstance(value, Tensor) or value.dtype != torch.uint8:
            return value
        # In place: nothing but the one float copy is made.
        return value.float().div_(255).sub_(self.mean).div_(self.std)
