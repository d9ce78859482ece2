"""What every visual trunk must answer, and the walk over blocks that transformers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fineclip.models.attention import attention_kernel
from fineclip.models.dense_maps import DENSE_MAPS, AttentionHeads, DenseMap, mix_values

Block: TypeAlias = Any
"""A transformer block or another stage of the tower. Only the adapter knows what it holds."""

Pooling = Literal["class_token", "mean", "attention"]
"""Where an image embedding is read from: the class token, the mean of the patch tokens, or what a
learned query attends to among them."""

Residual = Literal["own", "class_token"]
"""What a block without attention adds its output to: every token itself, or the class token."""


class TrunkTaps(NamedTuple):
    """What detectors and segmenters read of a trunk, nothing normalised.

    Attributes:
        maps: One (B, C_i, h_i, w_i) map per tap, in the order asked for.
        dense: (B, D, h, w) the dense map, or None where it was not asked for.
    """

    maps: tuple[Tensor, ...]
    dense: Tensor | None


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

    visual: Any
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
    def dense_head(
        self, state: Any, how: DenseMap = DENSE_MAPS["value"], guide: Tensor | None = None
    ) -> Tensor:
        """From :meth:`forward_shared` to the dense map, raw.

        Args:
            state: Of :meth:`forward_shared`.
            how: What the last attention is replaced by.
            guide: (B, C, h', w') features of a second model, for a map that is guided.

        Returns:
            (B, D, h, w).

        Raises:
            ValueError: The tower has no such map, or features are missing.
        """

    @abstractmethod
    def global_and_patch_heads(self, state: Any) -> tuple[Tensor, Tensor]:
        """From :meth:`forward_shared` to the image embedding (B, D) and the patches (B, N, D), raw.

        The image embedding is :meth:`global_head`'s. The patches are what the last attention makes
        of every location, as token-level objectives read it, N = h * w row by row. They share all
        attention with the image embedding, where the dense map has it replaced.
        """

    @property
    @abstractmethod
    def stages(self) -> Sequence[Block]:
        """The modules whose outputs can be tapped, in order: a ViT's blocks, a ResNet's stages."""

    @abstractmethod
    def tap_channels(self, index: int) -> int:
        """Channels C_i of the map that tapping ``stages[index]`` gives."""

    @abstractmethod
    def tap_stride(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels of a location of the map that ``stages[index]`` gives."""

    @abstractmethod
    def forward_taps(
        self, images: Tensor, taps: Sequence[int], *, dense: bool = False
    ) -> TrunkTaps:
        """Feature maps from inside the tower, with the dense map from the same pass.

        Args:
            images: (B, 3, H, W), normalised as the owner of the features wants it.
            taps: Indices into :attr:`stages`, in any order; each tap is the output of that stage
                on the way to the dense map, locations only (no class token), before any final
                norm. So the last block of a ViT is tapped in its attention-free form (F-ViT).
            dense: Also the map of :meth:`dense_head`. Without it, nothing after the last tap runs.

        Returns:
            The maps in the order of ``taps``, and the dense map if asked for.

        Raises:
            ValueError: Nothing to compute, a tap out of range, or a side of the images that is
                not a multiple of the patch.
        """

    def check_taps(self, taps: Sequence[int], setting: str = "taps") -> None:
        """Refuses taps that are not stages of the tower.

        Args:
            taps: Indices into :attr:`stages`.
            setting: What the message calls them.

        Raises:
            ValueError: Some are out of range.
        """
        if wrong := [tap for tap in taps if not 0 <= tap < len(self.stages)]:
            raise ValueError(
                f"{setting} {wrong} out of range: this tower has {len(self.stages)} blocks "
                "(stages of a ResNet), counted from 0"
            )

    def _last_stage(self, taps: Sequence[int], dense: bool) -> int:
        """The last stage that a walk for these taps and the dense map has to run."""
        self.check_taps(taps)
        if not taps and not dense:
            raise ValueError("neither taps nor the dense map asked for")
        return len(self.stages) - 1 if dense else max(taps)

    def parameters_unused_by_dense(self) -> Iterable[nn.Parameter]:
        """Parameters of :attr:`stages` that neither taps nor the dense map read.

        They get no gradient from either, so a detector that trains a stage leaves them alone.
        """
        return ()

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
    """Tokens before the last block: all that the global and the dense path share.

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
        num_prefix_tokens: Tokens before the patch tokens.
    """

    num_prefix_tokens: int = 1

    @abstractmethod
    def embed(self, images: Tensor) -> TrunkTokens:
        """Patch embedding and positions. images: (B, 3, H, W) -> tokens before block 0."""

    @property
    @abstractmethod
    def blocks(self) -> Any:
        """The transformer blocks in order, an ``nn.ModuleList`` or ``nn.Sequential``."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Width C of the tokens."""

    @property
    def stages(self) -> Any:
        """The transformer blocks."""
        return self.blocks

    def tap_channels(self, index: int) -> int:
        """The width of the tokens, the same for every block."""
        return self.width

    def tap_stride(self, index: int) -> tuple[int, int]:
        """The patch, the same for every block."""
        return self.patch_size

    @property
    @abstractmethod
    def pooling(self) -> Pooling:
        """Where the image embedding is read from after the last block."""

    @property
    @abstractmethod
    def grad_checkpointing(self) -> bool:
        """Whether blocks are recomputed in the backward pass."""

    @abstractmethod
    def run_block(self, block: Block, tokens: Tensor, rope: Tensor | None) -> Tensor:
        """One ordinary block. (B, P + N, C) -> (B, P + N, C)."""

    def run_block_without_attention(
        self, block: Block, tokens: Tensor, residual: Residual = "own"
    ) -> Tensor:
        """One block in which each token attends itself alone (see :meth:`dense_head`).

        Args:
            block: One of :attr:`blocks`.
            tokens: (B, P + N, C).
            residual: See :meth:`forward_taps`.

        Returns:
            (B, P + N, C).
        """
        kept = tokens[:, :1] if residual == "class_token" else tokens
        return self.feed_forward(block, kept + self.attend_alone(block, tokens))

    def run_block_with_prompts(
        self, block: Block, tokens: Tensor, rope: Tensor | None, prompts: Tensor
    ) -> Tensor:
        """One ordinary block with prompt tokens, which only this block sees.

        Args:
            block: One of :attr:`blocks`.
            tokens: (B, P + N, C).
            rope: Rotary table (N, 2 * head_dim), or None.
            prompts: (length, C).

        Returns:
            (B, P + N, C), without the prompts.
        """
        prefix, length = self.num_prefix_tokens, len(prompts)
        prompts = prompts.to(tokens.dtype).expand(len(tokens), -1, -1)
        tokens = torch.cat([tokens[:, :prefix], prompts, tokens[:, prefix:]], dim=1)
        if rope is not None:
            # The rotary table counts what follows the prefix, so the prompts need rows of their
            # own. They have no position: sine 0 and cosine 1 leave them unrotated.
            sin, cos = rope.new_zeros(length, rope.shape[1]).chunk(2, dim=1)
            rope = torch.cat([torch.cat([sin, cos + 1], dim=1), rope])
        tokens = self.run_block(block, tokens, rope)
        return torch.cat([tokens[:, :prefix], tokens[:, prefix + length :]], dim=1)

    @abstractmethod
    def attend_alone(self, block: Block, tokens: Tensor) -> Tensor:
        """What a block's attention adds to each token that attends itself alone.

        First norm, value and output projection, layer scale; the residual is the caller's.

        Args:
            block: One of :attr:`blocks`; its query, key and value weights may be one packed
                matrix or three, as in ``torch.nn.MultiheadAttention``.
            tokens: (B, P + N, C).

        Returns:
            (B, P + N, C).
        """

    @abstractmethod
    def attention_heads(self, block: Block, tokens: Tensor, rope: Tensor | None) -> AttentionHeads:
        """Queries, keys and values of a block's attention, as it compares and mixes them.

        Args:
            block: One of :attr:`blocks`.
            tokens: (B, P + N, C).
            rope: Rotary table (N, 2 * head_dim), or None.
        """

    @abstractmethod
    def finish_attention(self, block: Block, tokens: Tensor, mixed: Tensor) -> Tensor:
        """From mixed values to what a block's attention adds to its tokens.

        Args:
            block: One of :attr:`blocks`.
            tokens: (B, P + N, C) what the block was given.
            mixed: (B, P + N, heads * head_dim) values after mixing, head by head.

        Returns:
            (B, P + N, C).
        """

    def run_block_otherwise(
        self,
        block: Block,
        tokens: Tensor,
        rope: Tensor | None,
        how: DenseMap,
        grid: tuple[int, int],
        guide: Tensor | None,
    ) -> Tensor:
        """One block whose attention compares something else (:mod:`fineclip.models.dense_maps`).

        Args:
            block: One of :attr:`blocks`.
            tokens: (B, P + N, C).
            rope: Rotary table (N, 2 * head_dim), or None.
            how: What is compared, and what else of the block is run.
            grid: (h, w) of the patch grid.
            guide: See :meth:`dense_head`.

        Returns:
            (B, P + N, C).
        """
        heads = self.attention_heads(block, tokens, rope)
        mixed = mix_values(heads, how.compared, grid, guide)
        added = self.finish_attention(block, tokens, mixed.transpose(1, 2).flatten(2))
        return added if how.attention_only else self.feed_forward(block, tokens + added)

    @abstractmethod
    def feed_forward(self, block: Block, tokens: Tensor) -> Tensor:
        """The MLP half of a block with its residual. (B, P + N, C) -> (B, P + N, C)."""

    @abstractmethod
    def pool_and_project(self, tokens: Tensor) -> Tensor:
        """Final norm, pooling and projection of the image embedding. -> (B, D)."""

    @abstractmethod
    def project_patches(self, tokens: Tensor) -> Tensor:
        """Final norm and projection of every patch token. -> (B, N, D)."""

    def forward_shared(self, images: Tensor) -> TrunkTokens:
        """Everything before the last block.

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

    def dense_head(
        self, state: TrunkTokens, how: DenseMap = DENSE_MAPS["value"], guide: Tensor | None = None
    ) -> Tensor:
        """Last block without attention, or with another one, projected; see the base class.

        By default each token takes its own value vector through the output projection in place of
        the attention-weighted mixture; residual and MLP stay (MaskCLIP, as used by CLIPSelf,
        sec. 3).
        """
        run: Callable[..., Tensor] = self.run_block_without_attention
        options: tuple[Any, ...] = ()
        if how != DENSE_MAPS["value"]:
            run, options = self.run_block_otherwise, (state.rope, how, state.grid, guide)
        tokens = self._maybe_checkpoint(run, self.blocks[-1], state.tokens, *options)
        return _as_map(self.project_patches(tokens), state.grid)

    def forward_taps(
        self,
        images: Tensor,
        taps: Sequence[int],
        *,
        dense: bool = False,
        residual: Residual = "own",
        prompts: Tensor | None = None,
    ) -> TrunkTaps:
        """See :meth:`Trunk.forward_taps`; with two things that only CAT-Seg asks for.

        Args:
            images: See there.
            taps: See there.
            dense: See there.
            residual: What the last block, which runs without attention, adds its output to.
                "own": every token itself, as :meth:`dense_head` does. "class_token": the class
                token at every position, as CAT-Seg was trained (Cho et al., CVPR 2024).
            prompts: (depth, length, C) learned deep prompts (Jia et al., ECCV 2022). Block
                i < depth sees row i between the prefix and the patch tokens; the next block does
                not. The last block ignores them: no token looks at another there.

        Raises:
            ValueError: See there; also the class token's residual in a tower that has none, an
                unknown residual, or prompts for more blocks than there are.
        """
        last = self._last_stage(taps, dense)
        self.check_residual(residual)
        if prompts is not None and len(prompts) > len(self.blocks):
            raise ValueError(
                f"prompts for {len(prompts)} blocks, this tower has {len(self.blocks)}"
            )
        state = self.embed(images)
        tokens, found = state.tokens, {}
        run: Callable[..., Tensor]
        options: tuple[Any, ...]
        for index, block in enumerate(self.blocks[: last + 1]):
            if index == len(self.blocks) - 1:
                run, options = self.run_block_without_attention, (residual,)
            elif prompts is not None and index < len(prompts):
                run, options = self.run_block_with_prompts, (state.rope, prompts[index])
            else:
                run, options = self.run_block, (state.rope,)
            tokens = self._maybe_checkpoint(run, block, tokens, *options)
            if index in taps:
                found[index] = _as_map(tokens[:, self.num_prefix_tokens :], state.grid)
        dense_map = _as_map(self.project_patches(tokens), state.grid) if dense else None
        return TrunkTaps(tuple(found[tap] for tap in taps), dense_map)

    def check_residual(self, residual: str) -> None:
        """Refuses a residual (see :meth:`forward_taps`) that this tower cannot have.

        Raises:
            ValueError: An unknown one, or the class token's in a tower that has none.
        """
        if residual not in get_args(Residual):
            raise ValueError(
                f"unknown residual {residual!r}; known: {', '.join(get_args(Residual))}"
            )
        if residual == "class_token" and self.num_prefix_tokens == 0:
            raise ValueError("this image tower has no class token: choose residual='own'")

    def _maybe_checkpoint(
        self, function: Callable[..., Tensor], block: Block, tokens: Tensor, *args: object
    ) -> Tensor:
        def run(tokens: Tensor) -> Tensor:
            with attention_kernel(tokens):
                return function(block, tokens, *args)

        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(run, tokens, use_reentrant=False)
        return run(tokens)


def _as_map(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, N, C) -> (B, C, h, w)."""
    return patches.transpose(1, 2).unflatten(2, grid)
