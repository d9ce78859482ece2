"""Work on classes in pieces, where no gradient needs all of it at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch


def chunks(total: int, size: int) -> Iterator[slice]:
    """Slices that cover ``range(total)``.

    Args:
        total: Items.
        size: Items per slice where gradients are off. With gradients on there is one slice:
            autograd would keep every piece's intermediates anyway.

    Yields:
        Slices in order; none for no items.
    """
    step = max(total, 1) if torch.is_grad_enabled() else max(1, size)
    for start in range(0, total, step):
        yield slice(start, min(start + step, total))
