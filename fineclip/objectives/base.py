"""What an objective is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from fineclip.embeddings import Embeddings


class Objective(nn.Module, ABC):
    """A pure function of :class:`Embeddings`: named, weighted scalar losses.

    Losses are computed in float32 whatever autocast is active. With no rows to learn from they
    are zero, still connected to their inputs.

    Args:
        weight: Factor on every loss of this objective.

    Attributes:
        needs: Names of the :class:`Embeddings` fields it reads.
    """

    needs: ClassVar[frozenset[str]]

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """Evaluates the objective.

        Returns:
            Scalars named ``loss_*``, weighted.

        Raises:
            ValueError: If a field it needs is missing.
        """
        missing = [name for name in sorted(self.needs) if getattr(embeddings, name) is None]
        if missing:
            raise ValueError(f"{type(self).__name__} needs the embeddings {', '.join(missing)}")
        device_type = getattr(embeddings, min(self.needs)).device.type
        with torch.autocast(device_type, enabled=False):
            losses = self.compute(embeddings)
        return {name: self.weight * loss for name, loss in losses.items()}

    @abstractmethod
    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """Unweighted scalars named ``loss_*``."""
