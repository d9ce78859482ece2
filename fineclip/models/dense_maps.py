"""Ways to make a dense map of the last block of a CLIP that was trained for whole images.

Each replaces the last attention's comparison of queries with keys, which gathers what describes
the image, by one that keeps to what a location shows. The papers differ in what is compared and in
whether the block's residual and feed-forward part are kept; :data:`DENSE_MAPS` names the pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Comparison = Literal[
    "none", "query_query", "key_key", "query_query_key_key", "neighbourhood", "guide"
]


@dataclass(frozen=True)
class DenseMap:
    """One way.

    Args:
        compared: Whose similarity decides what each token attends: "none" (each token takes its
            own value), queries with queries, keys with keys, the sum of both, keys with keys plus
            a Gaussian of the distance ("neighbourhood"), or a second model's features ("guide").
        attention_only: The output of the attention goes to the final norm and projection alone,
            without the block's residual and feed-forward part.
    """

    compared: Comparison
    attention_only: bool


DENSE_MAPS = {
    "value": DenseMap("none", False),  # MaskCLIP (Zhou et al., ECCV 2022), as CLIPSelf trains it
    "value-only": DenseMap("none", True),
    "qq": DenseMap("query_query", False),
    "kk": DenseMap("key_key", False),
    "sclip": DenseMap("query_query_key_key", False),  # Wang et al., ECCV 2024
    "clearclip": DenseMap("query_query", True),  # Lan et al., ECCV 2024
    "kk-only": DenseMap("key_key", True),
    "naclip": DenseMap("neighbourhood", True),  # Hajimiri et al., WACV 2025
    "proxyclip": DenseMap("guide", True),  # Lan et al., ECCV 2024
}
"""By the names of ``--dense-map``."""

NEIGHBOURHOOD = 5.0
"""NACLIP's standard deviation of the Gaussian, in locations of the map."""

GUIDE_SHIFT, GUIDE_SCALE = 1.2, 3.0
"""ProxyCLIP's beta and gamma: similarities below beta times their mean are not attended."""


class AttentionHeads(NamedTuple):
    """What a block's attention compares and mixes, each (B, heads, P + N, head_dim)."""

    query: Tensor
    key: Tensor
    value: Tensor


def find_dense_map(name: str) -> DenseMap:
    """A way by its name.

    Raises:
        ValueError: Unknown name.
    """
    if name not in DENSE_MAPS:
        raise ValueError(f"unknown dense map {name!r}; known: {', '.join(DENSE_MAPS)}")
    return DENSE_MAPS[name]


def mix_values(
    heads: AttentionHeads,
    compared: Comparison,
    grid: tuple[int, int],
    guide: Tensor | None = None,
) -> Tensor:
    """What the attention makes of the values.

    Prefix tokens (the class token) compare as all others do, but for "guide": the second model
    has features of the N locations alone, so that prefix tokens keep their own value.

    Args:
        heads: Of the last block, as its own attention would compare them (rotary positions and
            norms of queries and keys applied).
        compared: See :class:`DenseMap`.
        grid: (h, w) of the N locations, which are the last tokens.
        guide: (B, C, h', w') features of a second model; resized to the grid.

    Returns:
        (B, heads, P + N, head_dim).

    Raises:
        ValueError: "guide" without features.
    """
    query, key, value = heads
    if compared == "none":
        return value
    if compared == "query_query":
        return F.scaled_dot_product_attention(query, query, value)
    if compared == "key_key":
        return F.scaled_dot_product_attention(key, key, value)
    if compared == "query_query_key_key":
        # A sum, as published, not a mean.
        by_query = F.scaled_dot_product_attention(query, query, value)
        return by_query + F.scaled_dot_product_attention(key, key, value)
    prefix = value.shape[2] - grid[0] * grid[1]
    if compared == "neighbourhood":
        near = F.pad(neighbourhood(grid, value.device), (prefix, 0, prefix, 0))
        return F.scaled_dot_product_attention(key, key, value, attn_mask=near.to(value.dtype))
    if guide is None:
        raise ValueError("this dense map is guided by a second model: give its features (guide)")
    weights = guided_weights(guide, grid).to(value.dtype)[:, None]  # (B, 1, N, N)
    return torch.cat([value[:, :, :prefix], weights @ value[:, :, prefix:]], dim=2)


def neighbourhood(grid: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """What NACLIP adds to the logits of two locations: a Gaussian of their distance, 1 at 0.

    Args:
        grid: (h, w).
        device: Where the result lives.

    Returns:
        (N, N) float32.
    """
    rows, columns = (
        torch.exp(-((line[:, None] - line) ** 2) / (2 * NEIGHBOURHOOD**2))
        for line in (torch.arange(side, device=device, dtype=torch.float32) for side in grid)
    )
    return torch.kron(rows, columns)


def guided_weights(guide: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which locations attend which, by the features of a second model.

    Cosines s become GUIDE_SCALE * (s - GUIDE_SHIFT * mean of the image's cosines); what is
    negative is not attended, the rest goes through a softmax.

    Args:
        guide: (B, C, h', w').
        grid: (h, w) of the result.

    Returns:
        (B, N, N) float32, rows add up to 1.
    """
    guide = guide.float()
    if guide.shape[-2:] != grid:
        guide = F.interpolate(guide, size=grid, mode="bilinear", align_corners=False)
    unit = F.normalize(guide.flatten(2), dim=1)  # (B, C, N)
    cosines = unit.transpose(1, 2) @ unit
    logits = GUIDE_SCALE * (cosines - GUIDE_SHIFT * cosines.mean(dim=(1, 2), keepdim=True))
    masked = logits.masked_fill(logits < 0, -torch.inf)
    # A location always attends itself: features all alike have every cosine below 1.2 times
    # their mean, and a row of -inf has no softmax.
    masked.diagonal(dim1=1, dim2=2).copy_(logits.diagonal(dim1=1, dim2=2))
    return masked.softmax(dim=2)
