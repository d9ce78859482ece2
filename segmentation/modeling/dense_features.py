"""What CAT-Seg reads from a CLIP image tower: a dense map and taps of earlier blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fineclip.models.trunks import TransformerTrunk
from segmentation.modeling.split_attention import connected

Residual = Literal["class_token", "own"]


@dataclass(frozen=True)
class DenseFeatures:
    """Maps of a batch of images on the patch grid, nothing normalised.

    Attributes:
        dense: (B, D, h, w) in the space of the text embeddings.
        taps: (B, C, h, w) outputs of the chosen blocks, in the tower's width.
    """

    dense: Tensor
    taps: tuple[Tensor, ...]


def default_taps(num_blocks: int) -> tuple[int, int]:
    """The ends of the first and second third of a tower: 3 and 7 of 12, 7 and 15 of 24."""
    return max(0, num_blocks // 3 - 1), max(0, 2 * num_blocks // 3 - 1)


def extract_features(
    trunk: TransformerTrunk,
    images: Tensor,
    *,
    taps: Sequence[int],
    residual: Residual = "class_token",
    prompts: Tensor | None = None,
) -> DenseFeatures:
    """Runs the image tower.

    The last block runs without attention: every token takes its own value vector through the
    output projection. The residual added to it is, in the released models, that of the CLASS
    token for every position; their weights need it. ``residual="own"`` adds each token's own, as
    MaskCLIP, CLIPSelf and ``DenseCLIP.encode_dense`` do.

    Args:
        trunk: Of :func:`fineclip.models.trunks.build_trunk`.
        images: (B, 3, H, W), normalised, multiples of the patch.
        taps: Indices of blocks, from 0.
        residual: See above.
        prompts: (depth, length, C) deep prompts (Jia et al., ECCV 2022): in front of block i
            < depth, ``length`` learned tokens are put behind the prefix tokens; behind the block
            they are removed again.

    Raises:
        ValueError: Taps outside of the tower, more prompts than blocks, or the class token's
            residual in a tower that has none.
    """
    blocks = trunk.blocks
    check_taps(taps, len(blocks))
    if residual == "class_token" and trunk.num_prefix_tokens == 0:
        raise ValueError("this image tower has no class token: choose residual='own'")
    if prompts is not None and len(prompts) > len(blocks):
        raise ValueError(f"prompts for {len(prompts)} blocks, the tower has {len(blocks)}")
    state = trunk.embed(images)
    tokens = state.tokens
    prefix = trunk.num_prefix_tokens
    found: dict[int, Tensor] = {}

    def run(block: nn.Module, tokens: Tensor, index: int) -> Tensor:
        if prompts is None or index >= len(prompts):
            return trunk.run_block(block, tokens, state.rope)
        return _with_prompts(trunk, block, tokens, state.rope, prompts[index])

    def run_last(block: nn.Module, tokens: Tensor) -> Tensor:
        # Prompts would not change anything here: no token looks at another.
        kept = tokens[:, :1] if residual == "class_token" else tokens
        alone = connected(trunk.attend_alone(block, tokens), block.attn)
        return trunk.feed_forward(block, kept + alone)

    for index, block in enumerate(blocks[:-1]):
        tokens = _maybe_checkpoint(trunk, run, block, tokens, index)
        if index in taps:
            found[index] = _as_map(tokens[:, prefix:], state.grid)
    tokens = _maybe_checkpoint(trunk, run_last, blocks[-1], tokens)
    if len(blocks) - 1 in taps:
        found[len(blocks) - 1] = _as_map(tokens[:, prefix:], state.grid)
    dense = _as_map(trunk.project_patches(tokens), state.grid)
    return DenseFeatures(dense, tuple(found[index] for index in taps))


def check_taps(taps: Sequence[int], num_blocks: int) -> None:
    """Refuses taps that are not blocks of the tower.

    Raises:
        ValueError: Some are not.
    """
    if any(not 0 <= index < num_blocks for index in taps):
        raise ValueError(
            f"guidance taps {list(taps)}: the image tower has the blocks 0 to {num_blocks - 1}"
        )


def _with_prompts(
    trunk: TransformerTrunk, block: nn.Module, tokens: Tensor, rope: Tensor | None, prompts: Tensor
) -> Tensor:
    """One block with (length, C) prompts behind the prefix tokens, which it does not return."""
    prefix, length = trunk.num_prefix_tokens, len(prompts)
    prompts = prompts.to(tokens.dtype).expand(len(tokens), -1, -1)
    longer = torch.cat([tokens[:, :prefix], prompts, tokens[:, prefix:]], dim=1)
    if rope is not None:
        # A prompt has no position: sine 0 and cosine 1 turn it by nothing.
        sin, cos = rope.new_zeros(length, rope.shape[1]).chunk(2, dim=1)
        rope = torch.cat([torch.cat([sin, cos + 1], dim=1), rope])
    longer = trunk.run_block(block, longer, rope)
    return torch.cat([longer[:, :prefix], longer[:, prefix + length :]], dim=1)


def _as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    return tokens.transpose(1, 2).unflatten(2, grid)


def _maybe_checkpoint(trunk: TransformerTrunk, function, *args: object) -> Tensor:
    if trunk.grad_checkpointing and torch.is_grad_enabled():
        return checkpoint(function, *args, use_reentrant=False)
    return function(*args)
