"""What every visual trunk must answer, and the position-table resampling they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Trunk(ABC):
    """Adapter around the visual tower of an open_clip model.

    A forward pass is one shared part followed by a global head, a dense head, or both. What the
    shared part hands to the heads is the adapter's own affair; callers only pass it on.

    It holds no parameters of its own and is no ``nn.Module``: the tower stays where it is in the
    CLIP model, so the state dict keeps open_clip's names.

    Attributes:
        visual: The adapted tower.
        patch_size: (height, width) in pixels of one location of the dense map.
    """

    visual: nn.Module
    patch_size: tuple[int, int]

    @abstractmethod
    def forward_shared(self, images: Tensor) -> Any:
        """Everything the global and the dense path have in common.

        Args:
            images: (B, 3, H, W), normalised with the model's mean and std.

        Raises:
            ValueError: If a side is not a multiple of the patch.
        """

    @abstractmethod
    def global_head(self, state: Any) -> Tensor:
        """From :meth:`forward_shared` to the image embedding (B, D), raw."""

    @abstractmethod
    def dense_head(self, state: Any) -> Tensor:
        """From :meth:`forward_shared` to the dense map (B, D, h, w), raw."""

    @abstractmethod
    def global_and_patch_heads(self, state: Any) -> tuple[Tensor, Tensor]:
        """From :meth:`forward_shared` to the image embedding (B, D) and the patches (B, N, D), raw.

        The image embedding is :meth:`global_head`'s. The patches are what the last attention makes
        of every location, as token-level objectives read it, N = h * w row by row. They share all
        attention with the image embedding, where the dense map has it replaced.
        """

    def grid_size(self, height: int, width: int) -> tuple[int, int]:
        """Grid (h, w) of the dense map of an input of ``height`` x ``width`` pixels.

        Raises:
            ValueError: If a side is not a multiple of the patch.
        """
        patch_height, patch_width = self.patch_size
        if height % patch_height or width % patch_width or not height or not width:
            raise ValueError(
                f"input is {height} x {width} pixels; both sides must be multiples of the "
                f"patch, {patch_height} x {patch_width}: resize or pad the images"
            )
        return height // patch_height, width // patch_width


@dataclass(frozen=True)
class TrunkTokens:
    """Tokens in front of the last block: all that the global and the dense path share.

    Attributes:
        tokens: (B, P + N, C), P prefix tokens (the class token) first, then N = h * w patches.
        grid: (h, w) of the patch grid.
        rope: Rotary table (N, 2 * head_dim) of the grid, or None where the trunk has none.
    """

    tokens: Tensor
    grid: tuple[int, int]
    rope: Tensor | None = None


class TransformerTrunk(Trunk):
    """A trunk of transformer blocks: the two paths differ in the last block and the pooling.

    Attributes:
        num_prefix_tokens: Tokens in front of the patch tokens.
    """

    num_prefix_tokens: int = 1

    @abstractmethod
    def embed(self, images: Tensor) -> TrunkTokens:
        """Patch embedding and positions. images: (B, 3, H, W) -> tokens in front of block 0."""

    @property
    @abstractmethod
    def blocks(self) -> nn.ModuleList | nn.Sequential:
        """The transformer blocks in order."""

    @property
    @abstractmethod
    def grad_checkpointing(self) -> bool:
        """Whether blocks are recomputed in the backward pass."""

    @abstractmethod
    def run_block(self, block: nn.Module, tokens: Tensor, rope: Tensor | None) -> Tensor:
        """One ordinary block. (B, P + N, C) -> (B, P + N, C)."""

    @abstractmethod
    def run_block_without_attention(self, block: nn.Module, tokens: Tensor) -> Tensor:
        """One block in which each token attends itself alone (see :meth:`dense_head`)."""

    @abstractmethod
    def pool_and_project(self, tokens: Tensor) -> Tensor:
        """Final norm, pooling and projection of the image embedding. -> (B, D)."""

    @abstractmethod
    def project_patches(self, tokens: Tensor) -> Tensor:
        """Final norm and projection of every patch token. -> (B, N, D)."""

    def forward_shared(self, images: Tensor) -> TrunkTokens:
        """Everything in front of the last block.

        Args:
            images: (B, 3, H, W), normalised with the model's mean and std.
        """
        state = self.embed(images)
        tokens = state.tokens
        for block in self.blocks[:-1]:
            tokens = self._maybe_checkpoint(self.run_block, block, tokens, state.rope)
        return TrunkTokens(tokens, state.grid, state.rope)

    def global_head(self, state: TrunkTokens) -> Tensor:
        """Last block as trained, pooled and projected: the image embedding (B, D), raw."""
        tokens = self._maybe_checkpoint(self.run_block, self.blocks[-1], state.tokens, state.rope)
        return self.pool_and_project(tokens)

    def global_and_patch_heads(self, state: TrunkTokens) -> tuple[Tensor, Tensor]:
        """Last block as trained, then :meth:`pool_and_project` and :meth:`project_patches`."""
        tokens = self._maybe_checkpoint(self.run_block, self.blocks[-1], state.tokens, state.rope)
        return self.pool_and_project(tokens), self.project_patches(tokens)

    def dense_head(self, state: TrunkTokens) -> Tensor:
        """Last block without attention, projected: the dense map (B, D, h, w), raw.

        Each token takes its own value vector through the output projection in place of the
        attention-weighted mixture; residual and MLP stay (MaskCLIP, as used by CLIPSelf, sec. 3).
        """
        tokens = self._maybe_checkpoint(
            self.run_block_without_attention, self.blocks[-1], state.tokens
        )
        patches = self.project_patches(tokens)  # (B, N, D)
        return patches.transpose(1, 2).unflatten(2, state.grid)  # (B, D, h, w)

    def _maybe_checkpoint(self, function: Callable[..., Tensor], *args: object) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(function, *args, use_reentrant=False)
        return function(*args)


def resample_position_table(table: Tensor, old_grid: tuple[int, int], grid: tuple[int, int]):
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
