"""What adapters of timm's transformers share."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fineclip.models.trunks.base import TransformerTrunk
from fineclip.positions import resample_position_table


class TimmTrunk(TransformerTrunk):
    """A trunk whose tower holds a timm transformer in ``trunk``."""

    trunk: Any

    @property
    def blocks(self) -> Any:
        return self.trunk.blocks

    @property
    def width(self) -> int:
        return self.trunk.embed_dim

    @property
    def grad_checkpointing(self) -> bool:
        return self.trunk.grad_checkpointing

    def _patches(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, N, C), without positions."""
        # The projection is called directly: PatchEmbed itself insists on its training size.
        patches = self.trunk.patch_embed.proj(images).flatten(2).transpose(1, 2)
        return self.trunk.patch_embed.norm(patches)

    def _add_positions(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, P + N, C) with the position table of an (h, w) grid added, prepared for block 0."""
        trunk = self.trunk
        if trunk.pos_embed is not None:
            table = resample_position_table(
                trunk.pos_embed[0], tuple(trunk.patch_embed.grid_size), grid
            )
            tokens = tokens + table.to(tokens.dtype)
        return trunk.norm_pre(trunk.pos_drop(tokens))
