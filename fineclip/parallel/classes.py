"""One draw of classes for all processes."""

from __future__ import annotations

import torch
from torch import Tensor

from fineclip.class_sampling import sample_classes
from fineclip.parallel.gather import sum_over_processes


def sample_common_classes(labels: Tensor, candidates: int | Tensor, number: int) -> Tensor:
    """:func:`fineclip.class_sampling.sample_classes` for the labels of all processes together.

    Chance is drawn from the labels themselves, so that all processes draw the same, however the
    batch is spread over them, and a resumed training as well.

    Args:
        labels: int64 of any shape, of this process; every one of them a class.
        candidates: K, or (K,) bool, as there.
        number: As there.

    Returns:
        As there, the same in all processes.
    """
    classes = candidates if isinstance(candidates, int) else len(candidates)
    counts = sum_over_processes(labels.flatten().bincount(minlength=classes)).cpu()
    sum_of_labels = int((counts * torch.arange(classes)).sum())
    generator = torch.Generator().manual_seed(sum_of_labels)
    if isinstance(candidates, Tensor):
        candidates = candidates.cpu()
    present = counts.nonzero().flatten()
    return sample_classes(present, candidates, number, generator).to(labels.device)
