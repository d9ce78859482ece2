"""Spatial half of an aggregation layer: two guided window-attention blocks on every class map.

CAT-Seg (Cho et al., CVPR 2024), sec. 3.3. Windows, and their shift in every second block, are
Swin's (Liu et al., ICCV 2021), without relative position bias.

Letters: B images, T classes, (H, W) grid, C channels, G guidance channels, A heads, S window side,
M windows of a map.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fineclip.models.attention import attention_kernel
from segmentation.modeling.chunks import chunks
from segmentation.modeling.guided_attention import GuidedAttention

# What the release adds to the logit of two pixels that are neighbours only because of the roll.
# Minus infinity would be sound; released weights were trained with this, which is not quite that.
_ACROSS_BANDS = -100.0


def window_of(grid: tuple[int, int], window: int, shifted: bool) -> tuple[int, int]:
    """The window side and the shift used on a grid.

    Args:
        grid: (H, W).
        window: Side asked for.
        shifted: Whether the block shifts its windows by half a side.

    Returns:
        (side, shift). A window that covers the shorter side becomes that side, and nothing shifts.
    """
    if min(grid) <= window:
        return min(grid), 0
    return window, window // 2 if shifted else 0


def window_mask(
    grid: tuple[int, int], window: int, shift: int, device: torch.device, dtype: torch.dtype
) -> Tensor | None:
    """What is added to the attention logits of each window of the padded and rolled map.

    Args:
        grid: (H, W) before padding to multiples of the window.
        window: Side S.
        shift: How far the map is rolled up and to the left.
        device: Where to make it.
        dtype: Of the attention.

    Returns:
        (M, S * S, S * S), row-major windows: -100 where the two pixels were not neighbours before
        the roll, minus infinity where the key is padding. None where nothing is masked.
    """
    padded = [math.ceil(side / window) * window for side in grid]
    if not shift and padded == list(grid):
        return None
    bands, reals = [], []
    for side, full in zip(grid, padded, strict=True):
        position = torch.arange(full, device=device)
        # The roll brings the first ``shift`` rows to the end, into the last window. So that window
        # holds two bands that were not neighbours: what was there, and what came round.
        band = (position >= full - window).int() + (position >= full - shift).int()
        bands.append(band if shift else torch.zeros_like(band))
        reals.append((position < side).roll(-shift))
    # A pixel's band is that of its row and that of its column together, of three each.
    band = _cut(bands[0][:, None] * 3 + bands[1], window)
    is_real = _cut(reals[0][:, None] & reals[1], window)
    mask = torch.zeros(*band.shape, band.shape[1], device=device, dtype=dtype)
    mask.masked_fill_(band[:, :, None] != band[:, None, :], _ACROSS_BANDS)
    # A padding query may attend padding: its row must not be empty, and nobody reads it.
    return mask.masked_fill_(is_real[:, :, None] & ~is_real[:, None, :], -math.inf)


def _cut(values: Tensor, window: int) -> Tensor:
    """A map (H, W) of whole windows -> (M, S * S)."""
    windows = values.unflatten(1, (-1, window)).unflatten(0, (-1, window))
    return windows.transpose(1, 2).flatten(2, 3).flatten(0, 1)


class WindowAttention(GuidedAttention):
    """Attention inside windows, then an output projection.

    Args:
        channels: C.
        guidance_channels: G.
        num_heads: A.

    Raises:
        ValueError: Channels that the heads do not divide.
    """

    def __init__(self, channels: int, guidance_channels: int, num_heads: int) -> None:
        super().__init__(channels, guidance_channels, num_heads)
        self.proj = nn.Linear(channels, channels)

    def forward(
        self, maps: Tensor, guidance_term: Tensor, window: int, shift: int, mask: Tensor | None
    ) -> Tensor:
        """Attends.

        Args:
            maps: (B, T, H, W, C).
            guidance_term: (B, H, W, 3 * C) of :meth:`guidance_term`.
            window: S.
            shift: Roll of the map.
            mask: Of :func:`window_mask`.

        Returns:
            (B, T, H, W, C).
        """
        images, _, height, width, _ = maps.shape
        rows, columns = math.ceil(height / window), math.ceil(width / window)
        qkv = (self.project(maps) + guidance_term[:, None]).flatten(0, 1)  # (B * T, H, W, 3 * C)
        bottom, right = rows * window - height, columns * window - width
        if bottom or right:
            # Whole windows only: zeros are appended, and the mask hides them.
            qkv = F.pad(qkv, (0, 0, 0, right, 0, bottom))
        if shift:
            # Rolling the map is simpler than windows that begin in the middle of one. It makes
            # neighbours of opposite borders, which the mask takes apart again.
            qkv = qkv.roll((-shift, -shift), dims=(1, 2))
        # Each window of each head is attention by itself. Both go into one dimension, since fused
        # attention takes four: (3, B * T, M * A, S * S, C / A).
        qkv = qkv.unflatten(3, (3, self.num_heads, -1))
        qkv = qkv.unflatten(2, (columns, window)).unflatten(1, (rows, window))
        qkv = qkv.permute(5, 0, 1, 3, 6, 2, 4, 7)  # (3, B * T, rows, columns, A, S, S, C / A)
        query, key, value = qkv.flatten(5, 6).flatten(2, 4)
        if mask is not None:
            mask = mask.repeat_interleave(self.num_heads, dim=0)[None]  # (1, M * A, S * S, S * S)
        with attention_kernel(query):
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        # And back: windows to their places, the roll undone, the padding cut off.
        mixed = mixed.unflatten(1, (rows, columns, -1)).unflatten(4, (window, window))
        mixed = mixed.permute(0, 1, 4, 2, 5, 3, 6)  # (B * T, rows, S, columns, S, A, C / A)
        mixed = mixed.flatten(5, 6).flatten(3, 4).flatten(1, 2)
        if shift:
            mixed = mixed.roll((shift, shift), dims=(1, 2))
        return self.proj(mixed[:, :height, :width].unflatten(0, (images, -1)))


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return self.fc2(F.gelu(self.fc1(x)))


class WindowBlock(nn.Module):
    """Pre-norm transformer block with :class:`WindowAttention`.

    Args:
        channels: C.
        guidance_channels: G.
        num_heads: A.
        window: Side of the window.
        shifted: Shift the windows by half a side.
    """

    def __init__(
        self,
        channels: int,
        guidance_channels: int,
        *,
        num_heads: int,
        window: int,
        shifted: bool,
    ) -> None:
        super().__init__()
        self.window = window
        self.shifted = shifted
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, guidance_channels, num_heads)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels, 4 * channels)
        self.register_load_state_dict_pre_hook(_drop_stored_mask)

    def forward(self, maps: Tensor, guidance: Tensor) -> Tensor:
        """(B, T, H, W, C) class maps with (B, H, W, G) guidance -> (B, T, H, W, C)."""
        grid = (maps.shape[2], maps.shape[3])
        window, shift = window_of(grid, self.window, self.shifted)
        term = self.attn.guidance_term(guidance)
        mask = window_mask(grid, window, shift, maps.device, term.dtype)
        maps = maps + self.attn(self.norm1(maps), term, window, shift, mask)
        return maps + self.mlp(self.norm2(maps))


class SpatialAggregation(nn.Module):
    """An unshifted and a shifted block, both guided by one normalised appearance map.

    Args:
        channels: C.
        guidance_channels: G.
        num_heads: A.
        window: Side of the window.
        map_chunk: Class maps worked on at a time where gradients are off.
    """

    def __init__(
        self,
        channels: int,
        guidance_channels: int,
        *,
        num_heads: int,
        window: int,
        map_chunk: int = 16,
    ) -> None:
        super().__init__()
        self.map_chunk = map_chunk
        common = {"num_heads": num_heads, "window": window}
        self.block_1 = WindowBlock(channels, guidance_channels, shifted=False, **common)
        self.block_2 = WindowBlock(channels, guidance_channels, shifted=True, **common)
        self.guidance_norm = nn.LayerNorm(guidance_channels)

    def forward(self, volume: Tensor, guidance: Tensor) -> Tensor:
        """Aggregates every class map by itself.

        Args:
            volume: (B, T, H, W, C).
            guidance: (B, H, W, G), before its norm.

        Returns:
            (B, T, H, W, C).
        """
        guidance = self.guidance_norm(guidance)
        if torch.is_grad_enabled():
            return self.block_2(self.block_1(volume, guidance), guidance)
        out = torch.empty_like(volume)
        for part in chunks(volume.shape[1], self.map_chunk // len(volume)):
            out[:, part] = self.block_2(self.block_1(volume[:, part], guidance), guidance)
        return out


def _drop_stored_mask(
    module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object
) -> None:
    """The release saves its mask, which belongs to one grid; ours is made for the input's."""
    state_dict.pop(f"{prefix}attn_mask", None)
