"""Cosine similarities that rank the same way on every machine and at any batch size."""

from __future__ import annotations

from torch import Tensor


def similarities(queries: Tensor, candidates: Tensor) -> Tensor:
    """Dot products in float64 on the CPU, rounded so that equal vectors tie exactly.

    A matrix product may add up the same numbers in another order from one column (or one batch
    size) to the next. Its error, about 1e-16 here, would decide ties at random; embeddings
    carry 1e-7 at best, so rounding at 1e-9 loses nothing.

    Args:
        queries: (n, D) unit vectors.
        candidates: (m, D) unit vectors.

    Returns:
        (n, m) float64 on the CPU.
    """
    product = queries.detach().cpu().double() @ candidates.detach().cpu().double().T
    return product.round_(decimals=9)
