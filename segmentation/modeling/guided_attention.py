"""Queries, keys and values of class maps that are guided by CLIP's own features.

The guidance is concatenated to what queries and keys are made of, not to values (CAT-Seg, Cho et
al., CVPR 2024, sec. 3.3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GuidedAttention(nn.Module):
    """What the attention inside windows and the one over classes have in common.

    A linear map of a concatenation is a sum of two linear maps. The guidance's share is the same
    for every class (inside windows) or location (over classes), so it is computed once by itself
    and broadcast; nothing is concatenated.

    Args:
        channels: C of the class maps.
        guidance_channels: G.
        num_heads: Heads, which divide C.

    Raises:
        ValueError: They do not.
    """

    def __init__(self, channels: int, guidance_channels: int, num_heads: int) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels cannot be divided among {num_heads} heads")
        self.channels = channels
        self.num_heads = num_heads
        self.q = nn.Linear(channels + guidance_channels, channels)
        self.k = nn.Linear(channels + guidance_channels, channels)
        self.v = nn.Linear(channels, channels)

    def project(self, maps: Tensor) -> Tensor:
        """Queries, keys and values without the guidance. (..., C) -> (..., 3 * C)."""
        own = slice(None, self.channels)
        weight = torch.cat([self.q.weight[:, own], self.k.weight[:, own], self.v.weight])
        bias = torch.cat([self.q.bias, self.k.bias, self.v.bias])
        return F.linear(maps, weight, bias)

    def guidance_term(self, guidance: Tensor) -> Tensor:
        """What the guidance adds to :meth:`project`, zero for values. (..., G) -> (..., 3 * C)."""
        guided = slice(self.channels, None)
        weight = torch.cat([self.q.weight[:, guided], self.k.weight[:, guided]])
        return F.linear(guidance, F.pad(weight, (0, 0, 0, self.channels)))
