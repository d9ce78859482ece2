"""Which classes a loss looks at where the vocabulary is large."""

from __future__ import annotations

import torch
from torch import Tensor


def sample_classes(
    labels: Tensor,
    candidates: int | Tensor,
    number: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The classes that occur, then others drawn uniformly without replacement.

    The federated loss (Zhou et al. 2021, "Probabilistic two-stage detection", sec. 4). The caller
    seeds the draw, so that a resumed training draws what an uninterrupted one would have.

    Args:
        labels: int64 of any shape, every one of them a class.
        candidates: K, all of which may be drawn, or (K,) bool, true for those that may.
        number: How many are wanted. All that occur are kept even if they are more.
        generator: Where chance comes from; None: the global generator of the labels' device.

    Returns:
        (n,) int64 distinct indices on the labels' device: those that occur in ascending order, the
        drawn ones after them. n is ``number``, unless more occur or fewer may be drawn.
    """
    device = labels.device if generator is None else generator.device
    present = labels.unique()
    drawn = number - len(present)
    if drawn <= 0:
        return present
    if isinstance(candidates, int):
        absent = torch.ones(candidates, dtype=torch.bool, device=device)
    else:
        absent = candidates.to(device, copy=True)
    absent[present.to(device)] = False
    others = absent.nonzero().flatten()
    order = torch.randperm(len(others), generator=generator, device=device)
    return torch.cat([present, others[order[:drawn]].to(labels.device)])
