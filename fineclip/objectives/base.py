"""What an objective is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from fineclip.embeddings import FIELDS, Embeddings


class Objective(nn.Module, ABC):
    """A pure function of :class:`Embeddings`: named, weighted scalar losses.

    Losses are computed in float32 whatever autocast is active. With no rows to learn from they
    are zero, still connected to their inputs.

    Where the embeddings name a ``share``, the result is this process's share of each loss: the
    shares of all processes add up to the loss of the global batch. An objective with a local form
    evaluates the rows in ``embeddings.own`` against the gathered ones; of any other, every
    process evaluates the whole loss and returns an equal part of it.

    Args:
        weight: Factor on every loss of this objective.

    Attributes:
        needs: Names of the :class:`Embeddings` fields it reads.
        compared: Those of them that its local form compares with other rows of the batch, and
            that must be gathered for it. None: it has no local form and needs all of them whole.
    """

    needs: ClassVar[frozenset[str]]
    compared: ClassVar[frozenset[str] | None] = None

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
        own, whole = embeddings.own, self.needs if self.compared is None else self.compared
        missing = [
            name
            for name in sorted(self.needs)
            if getattr(own, name) is None or (name in whole and getattr(embeddings, name) is None)
        ]
        if missing:
            raise ValueError(f"{type(self).__name__} needs the embeddings {', '.join(missing)}")
        with torch.autocast(getattr(own, min(self.needs)).device.type, enabled=False):
            losses = self.compute(embeddings)
        factor = self.weight
        if embeddings.share is not None and self.compared is None:
            factor /= embeddings.share.num_processes
        return {name: factor * loss for name, loss in losses.items()}

    @property
    def detached(self) -> frozenset[str]:
        """Fields that no gradient flows into: nobody has to keep a graph for this objective."""
        return frozenset()

    @abstractmethod
    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """Unweighted scalars named ``loss_*``; with a local form, the shares of them."""


def needed_fields(objectives: Iterable[Objective]) -> frozenset[str]:
    """Fields of :class:`Embeddings` that some objectives read.

    Raises:
        ValueError: If one of them reads a field that does not exist.
    """
    needed: set[str] = set()
    for objective in objectives:
        if unknown := sorted((objective.needs | (objective.compared or set())) - FIELDS.keys()):
            raise ValueError(
                f"{type(objective).__name__} needs {', '.join(unknown)}, which is no field of "
                f"Embeddings; known: {', '.join(FIELDS)}"
            )
        needed |= objective.needs
    return frozenset(needed)


def compared_fields(objectives: Iterable[Objective]) -> frozenset[str]:
    """Fields that have to be gathered over processes for the local form of some objectives.

    All that an objective without a local form needs are among them.
    """
    return frozenset().union(*(o.needs if o.compared is None else o.compared for o in objectives))
