"""Relevance from attention and its gradients: the rule of Chefer, Gur and Wolf, ICCV 2021.

For the layers l = 1 ... L of a tower, with attention probabilities A_l and the gradient of a score
with respect to them, the paper has (equations 5 and 6, self-attention)::

    W_l = mean over heads of (gradient * A_l)^+
    R   = (I + W_L) ... (I + W_1)

and reads off the row of the token that the embedding is taken from. A single row needs no product
of matrices. Starting from r = the row of I, and going down from the last layer::

    part_l = r W_l,    r <- r + part_l

The parts of all layers add up to the row of R - I. So each layer, and each head within it, has a
share of the relevance that is exact. What I adds, each token being itself, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Layer(NamedTuple):
    """Attention of a layer, and what the score makes of it.

    Attributes:
        probabilities: (B, heads, T, S).
        gradients: Of the score with respect to them, the same shape.
    """

    probabilities: Tensor
    gradients: Tensor


def weigh_attention(layer: Layer) -> Tensor:
    """Attention weighed by what it does for the score; the sum over heads is the paper's W.

    Args:
        layer: Of self-attention or of a pooling.

    Returns:
        (B, heads, T, S), the positive part of the product divided by the number of heads; at
        least float32.
    """
    dtype = torch.promote_types(layer.probabilities.dtype, torch.float32)
    product = layer.probabilities.detach().to(dtype) * layer.gradients
    return product.clamp_(min=0).div_(product.shape[1])


def relevance_parts(layers: Sequence[Layer], start: Tensor) -> Tensor:
    """The shares of layers and heads in the relevance of every token.

    Args:
        layers: Those of self-attention, the first layer first, S = T.
        start: (B, T) the share of each token in what the embedding is read from: 1 for a class
            token, 1 / N for each of N patches that are averaged; at least float32.

    Returns:
        (B, L, heads, T); their sum over layers and heads is ``start (R - I)``.
    """
    row, parts = start, []
    for layer in reversed(layers):
        # One layer at a time: what is weighed is as large as what was recorded.
        parts.append(torch.einsum("bt,bhts->bhs", row, weigh_attention(layer)))
        row = row + parts[-1].sum(dim=1)
    return torch.stack(parts[::-1], dim=1)


def pooled_relevance_parts(layers: Sequence[Layer], pooling: Layer) -> Tensor:
    """The same for a tower whose tokens a learned query pools by attention (SigLIP).

    The pooling is the paper's cross-attention (equations 8 to 10) of a query that has seen nothing
    yet: the row is ``pool (N (R - I) + I)``, where N divides each row by its sum. Gradients are
    small, so without N the tower below the pooling would hardly count.

    Args:
        layers: Those of self-attention, the first layer first.
        pooling: The pooling's, T = 1.

    Returns:
        (B, L + 1, heads, T), the pooling as the last layer.
    """
    pool = weigh_attention(pooling).squeeze(2)  # (B, heads, T)
    sums = torch.zeros_like(pool[:, 0])  # (B, T) those of the rows of R - I; 1 would drown them
    for layer in layers:
        sums = sums + torch.einsum("bhts,bs->bt", weigh_attention(layer), 1 + sums)
    # A token that attends to nothing relevant has a row of zeros, and passes nothing on.
    start = torch.where(sums > 0, pool.sum(dim=1) / sums, 0)
    return torch.cat([relevance_parts(layers, start), pool[:, None]], dim=1)
