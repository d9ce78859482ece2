"""timm's ``Eva`` inside open_clip's ``TimmModel`` (EVA02-CLIP)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from timm.layers import RotaryEmbeddingCat, apply_rot_embed_cat, build_rotary_pos_embed
from timm.models.eva import Eva, EvaAttention, EvaBlock
from torch import Tensor, nn

from fineclip.models.dense_maps import AttentionHeads
from fineclip.models.trunks.base import Block, Pooling, TrunkTokens
from fineclip.models.trunks.timm_base import TimmTrunk


class TimmEvaTrunk(TimmTrunk):
    """Adapter for ``open_clip.timm_model.TimmModel`` around ``timm.models.eva.Eva``.

    The rotary table is recomputed for the true (h, w) grid of the input, positions scaled to the
    range the model was trained with, so rectangular inputs are exact.

    Args:
        visual: The tower.

    Raises:
        ValueError: For ``Eva`` variants whose dense features are not defined here: post-norm
            blocks, other attention types, attention pooling, no class token, mixed rotary
            embeddings, or patch dropout.
    """

    def __init__(self, visual: TimmModel) -> None:
        trunk = visual.trunk
        if not isinstance(trunk, Eva):
            raise ValueError(f"expected a timm Eva trunk, got {type(trunk).__name__}")
        supported = (
            all(isinstance(b, EvaBlock) and isinstance(b.attn, EvaAttention) for b in trunk.blocks)
            and trunk.attn_pool is None
            and trunk.cls_token is not None
            and not trunk.no_embed_class
            and isinstance(trunk.rope, RotaryEmbeddingCat | None)
        )
        if not supported:
            raise ValueError(
                "only EVA02-CLIP style Eva trunks are supported: pre-norm blocks, class token "
                "with position, token or average pooling, axial rotary embedding or none"
            )
        if trunk.patch_drop is not None:
            raise ValueError("patch dropout removes positions of the dense map: set it to 0")
        self.visual = visual
        self.trunk = trunk
        self.patch_size = tuple(trunk.patch_embed.patch_size)
        self.num_prefix_tokens = trunk.num_prefix_tokens

    @property
    def pooling(self) -> Pooling:
        return "mean" if self.trunk.global_pool == "avg" else "class_token"

    def embed(self, images: Tensor) -> TrunkTokens:
        trunk = self.trunk
        grid = self.grid_size(*images.shape[-2:])
        patches = self._patches(images)  # (B, N, C)
        prefix = (
            [trunk.cls_token] if trunk.reg_token is None else [trunk.cls_token, trunk.reg_token]
        )
        prefix = [token.to(patches.dtype).expand(len(patches), -1, -1) for token in prefix]
        tokens = self._add_positions(torch.cat([*prefix, patches], dim=1), grid)  # (B, P + N, C)
        return TrunkTokens(tokens, grid, self._rotary_table(grid, tokens.device))

    def _rotary_table(self, grid: tuple[int, int], device: torch.device) -> Tensor | None:
        rope = self.trunk.rope
        if rope is None:
            return None
        # ``rope.get_embed`` ignores the grid in timm's cached mode, hence the function below it.
        sin, cos = build_rotary_pos_embed(
            list(grid),
            dim=rope.dim,
            max_res=rope.max_res,
            temperature=rope.temperature,
            linear_bands=rope.linear_bands,
            in_pixels=rope.in_pixels,
            ref_feat_shape=rope.ref_feat_shape,
            grid_offset=rope.grid_offset,
            grid_indexing=rope.grid_indexing,
            device=device,
        )
        return torch.cat([sin, cos], dim=-1)  # (N, 2 * head_dim)

    def run_block(self, block: Block, tokens: Tensor, rope: Tensor | None) -> Tensor:
        return block(tokens, rope=rope)

    def parameters_unused_by_dense(self) -> Iterable[nn.Parameter]:
        # Queries and keys of the last block, as far as they are not packed with the values.
        attention = self.blocks[-1].attn
        names = ("q_proj.", "k_proj.", "q_norm.", "k_norm.", "q_bias")
        return [p for name, p in attention.named_parameters() if name.startswith(names)]

    def attend_alone(self, block: Block, tokens: Tensor) -> Tensor:
        return self.finish_attention(block, tokens, _value(block.attn, block.norm1(tokens)))

    def attention_heads(self, block: Block, tokens: Tensor, rope: Tensor | None) -> AttentionHeads:
        attention, tokens = block.attn, block.norm1(tokens)
        query, key, value = (
            part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
            for part in (*_query_and_key(attention, tokens), _value(attention, tokens))
        )
        query, key = attention.q_norm(query), attention.k_norm(key)
        if rope is not None:
            prefix = attention.num_prefix_tokens
            query, key = (
                torch.cat(
                    [
                        part[:, :, :prefix],
                        apply_rot_embed_cat(
                            part[:, :, prefix:], rope, half=attention.rotate_half
                        ).type_as(value),
                    ],
                    dim=2,
                )
                for part in (query, key)
            )
        return AttentionHeads(query, key, value)

    def finish_attention(self, block: Block, tokens: Tensor, mixed: Tensor) -> Tensor:
        attention = block.attn
        mixed = attention.norm(mixed)
        if attention.gate is not None:
            mixed = mixed * attention.gate(block.norm1(tokens)).sigmoid()
        mixed = attention.proj_drop(attention.proj(mixed))
        return block.drop_path1(mixed if block.gamma_1 is None else block.gamma_1 * mixed)

    def feed_forward(self, block: Block, tokens: Tensor) -> Tensor:
        hidden = block.mlp(block.norm2(tokens))
        return tokens + block.drop_path2(
            hidden if block.gamma_2 is None else block.gamma_2 * hidden
        )

    def pool_and_project(self, tokens: Tensor) -> Tensor:
        return self.visual.head(self.trunk.forward_head(self.trunk.norm(tokens)))

    def project_patches(self, tokens: Tensor) -> Tensor:
        trunk = self.trunk
        patches = trunk.norm(tokens[:, self.num_prefix_tokens :])
        patches = trunk.head(trunk.head_drop(trunk.fc_norm(patches)))
        return self.visual.head(patches)


def _value(attention: EvaAttention, tokens: Tensor) -> Tensor:
    """Values of all heads. (B, L, C) -> (B, L, heads * head_dim)."""
    if attention.v_proj is not None:
        return attention.v_proj(tokens)
    width = attention.qkv.out_features // 3
    return F.linear(tokens, attention.qkv.weight[2 * width :], attention.v_bias)


def _query_and_key(attention: EvaAttention, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Queries and keys of all heads, without positions; there is no bias of keys."""
    if attention.q_proj is not None and attention.k_proj is not None:
        return attention.q_proj(tokens), attention.k_proj(tokens)
    query, key, _ = attention.qkv.weight.chunk(3)
    return F.linear(tokens, query, attention.q_bias), F.linear(tokens, key)
