"""Absolute position tables for other grids."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def resample_position_table(
    table: Tensor, old_grid: tuple[int, int], grid: tuple[int, int]
) -> Tensor:
    """Resizes the patch part of an absolute position table; prefix entries are kept.

    Plain bicubic without antialiasing, as the published CLIP fine-tunes do it. timm's
    ``resample_abs_pos_embed`` antialiases, and its different cubic kernel moves image features
    by about 0.1.

    Args:
        table: (P + old_h * old_w, C).
        old_grid: Grid the table was made for.
        grid: Grid of the input, (h, w).

    Returns:
        (P + h * w, C), the table itself where the grids agree.
    """
    if grid == old_grid:
        return table
    num_prefix = table.shape[0] - old_grid[0] * old_grid[1]
    prefix, patches = table[:num_prefix], table[num_prefix:]
    patches = patches.transpose(0, 1).unflatten(1, old_grid)[None]  # (1, C, old_h, old_w)
    patches = F.interpolate(patches.float(), size=grid, mode="bicubic", align_corners=False)
    patches = patches[0].flatten(1).transpose(0, 1)  # (h * w, C)
    return torch.cat([prefix, patches.to(prefix.dtype)])
