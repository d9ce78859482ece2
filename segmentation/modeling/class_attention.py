"""Class half of an aggregation layer: attention over the classes at every location.

CAT-Seg (Cho et al., CVPR 2024), sec. 3.3; linear attention after Katharopoulos et al. (ICML 2020).

Letters: B images, T classes, (H, W) grid, (h, w) pooled grid, N = h * w, C channels, G guidance
channels, A heads.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fineclip.models.attention import attention_kernel
from segmentation.modeling.chunks import chunks
from segmentation.modeling.gradients import connected
from segmentation.modeling.guided_attention import GuidedAttention

AttentionType = Literal["linear", "full"]
_EPS = 1e-6


class ClassAttention(GuidedAttention):
    """Attention over the classes at every location. There is no output projection.

    Args:
        channels: C.
        guidance_channels: G.
        num_heads: A.
        attention: "linear" (elu + 1 features) or "full" (softmax).

    Raises:
        ValueError: Unknown ``attention``, or channels that the heads do not divide.
    """

    def __init__(
        self,
        channels: int,
        guidance_channels: int,
        *,
        num_heads: int,
        attention: AttentionType = "linear",
    ) -> None:
        if attention not in ("linear", "full"):
            raise ValueError(f"unknown class attention {attention!r}; known: linear, full")
        super().__init__(channels, guidance_channels, num_heads)
        self.attention = attention

    def forward(
        self,
        tokens: Tensor,
        guidance: Tensor,
        padding: tuple[Tensor, Tensor] | None = None,
        copies: int = 0,
    ) -> Tensor:
        """Attends.

        Args:
            tokens: (B, T, N, C).
            guidance: (B or 1, T, G).
            padding: A token (C,) and its guidance (G,) that stand after the classes.
            copies: How often. Nobody reads their outputs, and equal keys add up: one key that
                counts ``copies`` times gives the result of as many ordinary tokens.

        Returns:
            (B, T, N, C).
        """
        qkv = self.project(tokens) + self.guidance_term(guidance)[:, :, None]
        query, key, value = self._split(qkv)  # (B, N, A, T, C / A) each
        extra = None
        if padding is not None and copies:
            token, token_guidance = padding
            one = self.project(token) + self.guidance_term(token_guidance)
            _, *extra = self._split(one.view(1, 1, 1, -1))  # (1, 1, A, 1, C / A) key and value
        mix = _linear_attention if self.attention == "linear" else _full_attention
        mixed = mix(query, key, value, extra, copies)
        return mixed.permute(0, 3, 1, 2, 4).flatten(3)  # (B, T, N, C)

    def _split(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """(B, T, N, 3 * C) -> queries, keys and values (B, N, A, T, C / A)."""
        return qkv.unflatten(3, (3, self.num_heads, -1)).permute(3, 0, 2, 4, 1, 5).unbind()


def _linear_attention(
    query: Tensor, key: Tensor, value: Tensor, extra: list[Tensor] | None, copies: int
) -> Tensor:
    """f(q) . sum(f(k) v) / (f(q) . sum f(k)) with f = elu + 1. (..., T, c) -> (..., T, c)."""
    query, key = F.elu(query) + 1, F.elu(key) + 1
    summed = key.transpose(-2, -1) @ value  # (..., c, c)
    total = key.sum(dim=-2)[..., None]  # (..., c, 1)
    if extra is not None:
        extra_key = (F.elu(extra[0]) + 1).transpose(-2, -1)  # (1, 1, A, c, 1)
        summed = summed + copies * (extra_key @ extra[1])
        total = total + copies * extra_key
    return query @ summed / (query @ total + _EPS)


def _full_attention(
    query: Tensor, key: Tensor, value: Tensor, extra: list[Tensor] | None, copies: int
) -> Tensor:
    """Softmax attention. (..., T, c) -> (..., T, c)."""
    lead = query.shape[:2]
    mask = None
    if extra is not None:
        key, value = (
            torch.cat([of_classes, one.expand(*lead, -1, -1, -1)], dim=3)
            for of_classes, one in zip((key, value), extra, strict=True)
        )
        # exp(logit + log n) = n exp(logit): the softmax counts the last key n times.
        mask = query.new_zeros(1, 1, 1, key.shape[3])
        mask[..., -1] = math.log(copies)
    query, key, value = (x.flatten(0, 1) for x in (query, key, value))
    with attention_kernel(query):
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return mixed.unflatten(0, lead)


class ClassAggregation(nn.Module):
    """Pools the maps, attends over classes, and adds the result to the maps.

    Two things the released weights were trained with, and their sound alternatives:

    * The attended tokens still hold the pooled maps they started from, so a map counts twice: as
      it is and pooled. ``doubled_residual=False`` adds only what the layer changed.
    * Fewer classes than the budget are filled up with copies of a learned token which are not
      masked: every class attends to them. Without a budget (``pad_length=0``) there are none.

    Args:
        channels: C.
        guidance_channels: G.
        num_heads: A.
        attention: "linear" or "full".
        pad_length: Class budget.
        doubled_residual: See above.
        map_chunk: Class maps' worth of locations worked on at a time where gradients are off.

    Raises:
        ValueError: A negative budget, or settings that :class:`ClassAttention` refuses.
    """

    def __init__(
        self,
        channels: int,
        guidance_channels: int,
        *,
        num_heads: int,
        attention: AttentionType = "linear",
        pad_length: int = 256,
        doubled_residual: bool = True,
        map_chunk: int = 16,
    ) -> None:
        super().__init__()
        if pad_length < 0:
            raise ValueError(f"pad_length must not be negative, got {pad_length}")
        self.pad_length = pad_length
        self.doubled_residual = doubled_residual
        self.map_chunk = map_chunk
        self.attention = ClassAttention(
            channels, guidance_channels, num_heads=num_heads, attention=attention
        )
        self.MLP = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.ReLU(), nn.Linear(4 * channels, channels)
        )
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        if pad_length:
            self.padding_tokens = nn.Parameter(torch.zeros(1, 1, channels))
            self.padding_guidance = nn.Parameter(torch.zeros(1, 1, guidance_channels))

    def forward(self, volume: Tensor, guidance: Tensor, pooling: tuple[int, int]) -> Tensor:
        """Aggregates over classes.

        Args:
            volume: (B, T, H, W, C), T at most ``pad_length`` where that is not 0.
            guidance: (B or 1, T, G).
            pooling: (height, width) of the average pooling, at most the grid; it has no weights,
                so training and inference may differ in it.

        Returns:
            (B, T, H, W, C).
        """
        images, classes, height, width, _ = volume.shape
        pooled = _pool(volume, (min(pooling[0], height), min(pooling[1], width)))
        tokens = pooled.flatten(2, 3)  # (B, T, N, C)
        padding, copies = self._padding(classes)
        if torch.is_grad_enabled():
            changed = self._layer(tokens, guidance, padding, copies)
        else:
            changed = torch.empty_like(tokens)
            locations = math.ceil(self.map_chunk * height * width / (images * classes))
            for part in chunks(tokens.shape[2], locations):
                changed[:, :, part] = self._layer(tokens[:, :, part], guidance, padding, copies)
        if not self.doubled_residual:
            changed = changed - tokens
        volume = volume + _enlarge(changed.unflatten(2, pooled.shape[2:4]), (height, width))
        if self.pad_length and not copies:
            volume = connected(volume, (self.padding_tokens, self.padding_guidance))
        return volume

    def _padding(self, classes: int) -> tuple[tuple[Tensor, Tensor] | None, int]:
        if classes >= self.pad_length:
            return None, 0
        token = self.norm1(self.padding_tokens[0, 0])
        return (token, self.padding_guidance[0, 0]), self.pad_length - classes

    def _layer(
        self,
        tokens: Tensor,
        guidance: Tensor,
        padding: tuple[Tensor, Tensor] | None,
        copies: int,
    ) -> Tensor:
        tokens = tokens + self.attention(self.norm1(tokens), guidance, padding, copies)
        return tokens + self.MLP(self.norm2(tokens))


def _pool(volume: Tensor, pooling: tuple[int, int]) -> Tensor:
    """(B, T, H, W, C) -> (B, T, h, w, C)."""
    if pooling == (1, 1):
        return volume
    maps = F.avg_pool2d(volume.flatten(0, 1).permute(0, 3, 1, 2), pooling)
    return maps.permute(0, 2, 3, 1).unflatten(0, volume.shape[:2])


def _enlarge(volume: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, T, h, w, C) -> (B, T, H, W, C). The only resizing of the network that aligns corners."""
    if tuple(volume.shape[2:4]) == size:
        return volume
    maps = volume.flatten(0, 1).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=True)
    return maps.permute(0, 2, 3, 1).unflatten(0, volume.shape[:2])
