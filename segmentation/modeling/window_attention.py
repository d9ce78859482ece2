"""Spatial half of an aggregation layer: two guided window-attention blocks on every class map.

CAT-Seg (Cho et al., CVPR 2024), sec. 3.3; windows and shift as in Swin (Liu et al., ICCV 2021),
without relative position bias.

Letters: B images, T classes, (H, W) grid, C channels, G guidance channels, A heads, S window side,
M windows of a map.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segmentation.modeling.chunks import chunks

# What the release adds to the logit of a pair of pixels that are neighbours only because of the
# roll. Finite, so it is kept as it is.
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
    bands, real = [], []
    for side, full in zip(grid, padded, strict=True):
        position = torch.arange(full, device=device)
        band = (position >= full - window).int() + (position >= full - shift).int()
        bands.append(band if shift else torch.zeros_like(band))
        real.append((position < side).roll(-shift))
    band = bands[0][:, None] * 3 + bands[1]
    is_real = real[0][:, None] & real[1]

    def cut(values: Tensor) -> Tensor:
        rows, columns = padded[0] // window, padded[1] // window
        values = values.view(rows, window, columns, window).transpose(1, 2)
        return values.reshape(rows * columns, window * window)

    band, is_real = cut(band), cut(is_real)
    mask = torch.zeros(*band.shape, band.shape[1], device=device, dtype=dtype)
    mask.masked_fill_(band[:, :, None] != band[:, None, :], _ACROSS_BANDS)
    # A padding query may attend padding: its row must not be empty, and nobody reads it.
    return mask.masked_fill_(is_real[:, :, None] & ~is_real[:, None, :], -math.inf)


class WindowAttention(nn.Module):
    """Attention inside windows; the guidance joins queries and keys, not values.

    Args:
        channels: C.
        guidance_channels: G.
        num_heads: A.
    """

    def __init__(self, channels: int, guidance_channels: int, num_heads: int) -> None:
        super().__init__()
        if channels % num_heads:
            raise ValueError(f"{channels} channels cannot be divided among {num_heads} heads")
        self.num_heads = num_heads
        self.q = nn.Linear(channels + guidance_channels, channels)
        self.k = nn.Linear(channels + guidance_channels, channels)
        self.v = nn.Linear(channels, channels)
        self.proj = nn.Linear(channels, channels)

    def guidance_term(self, guidance: Tensor) -> Tensor:
        """What the guidance contributes to queries, keys and (nothing) values.

        A linear map of a concatenation is a sum of two; this one is the same for every class.

        Args:
            guidance: (B, H, W, G).

        Returns:
            (B, 1, H, W, 3 * C).
        """
        channels = self.v.in_features
        weight = torch.cat([self.q.weight[:, channels:], self.k.weight[:, channels:]])
        return F.linear(guidance, F.pad(weight, (0, 0, 0, channels)))[:, None]

    def forward(
        self, maps: Tensor, guidance_term: Tensor, window: int, shift: int, mask: Tensor | None
    ) -> Tensor:
        """Attends.

        Args:
            maps: (B, T, H, W, C).
            guidance_term: Of :meth:`guidance_term`.
            window: S.
            shift: Roll of the map.
            mask: Of :func:`window_mask`.

        Returns:
            (B, T, H, W, C).
        """
        images, classes, height, width, channels = maps.shape
        heads = self.num_heads
        weight = torch.cat(
            [self.q.weight[:, :channels], self.k.weight[:, :channels], self.v.weight]
        )
        bias = torch.cat([self.q.bias, self.k.bias, self.v.bias])
        qkv = (F.linear(maps, weight, bias) + guidance_term).flatten(0, 1)  # (B * T, H, W, 3 * C)
        rows, columns = math.ceil(height / window), math.ceil(width / window)
        bottom, right = rows * window - height, columns * window - width
        if bottom or right:
            qkv = F.pad(qkv, (0, 0, 0, right, 0, bottom))
        if shift:
            qkv = qkv.roll((-shift, -shift), dims=(1, 2))
        qkv = qkv.view(len(qkv), rows, window, columns, window, 3, heads, channels // heads)
        qkv = qkv.permute(5, 0, 1, 3, 6, 2, 4, 7)  # (3, B * T, rows, columns, A, S, S, C / A)
        # Windows lie beside heads: fused attention takes four dimensions, and the mask broadcasts
        # over class maps.
        qkv = qkv.reshape(3, images * classes, rows * columns * heads, window * window, -1)
        if mask is not None:
            mask = mask.repeat_interleave(heads, dim=0)[None]
        mixed = F.scaled_dot_product_attention(*qkv, attn_mask=mask)
        mixed = mixed.view(images * classes, rows, columns, heads, window, window, -1)
        mixed = mixed.permute(0, 1, 4, 2, 5, 3, 6).reshape(
            images * classes, rows * window, columns * window, channels
        )
        if shift:
            mixed = mixed.roll((shift, shift), dims=(1, 2))
        return self.proj(mixed[:, :height, :width].unflatten(0, (images, classes)))


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
