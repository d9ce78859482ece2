"""open_clip's ``VisionTransformer`` (OpenAI, LAION, DataComp, ... weights)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from fineclip.models.dense_maps import AttentionHeads
from fineclip.models.trunks.base import Block, Pooling, TransformerTrunk, TrunkTokens
from fineclip.positions import resample_position_table


class OpenCLIPViTTrunk(TransformerTrunk):
    """Adapter for ``open_clip.transformer.VisionTransformer``.

    Args:
        visual: The tower.

    Raises:
        ValueError: For towers whose dense features are not defined: attentional pooling (CoCa),
            patch dropout, or custom residual blocks.
    """

    def __init__(self, visual: VisionTransformer) -> None:
        if visual.attn_pool is not None:
            raise ValueError("open_clip ViTs with attentional pooling (CoCa) have no dense path")
        if not isinstance(visual.patch_dropout, nn.Identity):
            raise ValueError(
                "patch dropout removes positions of the dense map: create the model with "
                "force_patch_dropout=0"
            )
        if not all(type(block) is ResidualAttentionBlock for block in visual.transformer.resblocks):
            raise ValueError("open_clip's CustomResidualAttentionBlock is not supported")
        self.visual = visual
        self.patch_size = tuple(visual.patch_size)

    @property
    def blocks(self) -> Any:
        return self.visual.transformer.resblocks

    @property
    def width(self) -> int:
        return self.visual.transformer.width

    @property
    def pooling(self) -> Pooling:
        return "mean" if self.visual.pool_type == "avg" else "class_token"

    @property
    def grad_checkpointing(self) -> bool:
        return self.visual.transformer.grad_checkpointing

    def embed(self, images: Tensor) -> TrunkTokens:
        visual = self.visual
        grid = self.grid_size(*images.shape[-2:])
        patches = visual.conv1(images).flatten(2).transpose(1, 2)  # (B, N, C)
        class_token = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        positions = resample_position_table(visual.positional_embedding, visual.grid_size, grid)
        tokens = torch.cat([class_token, patches], dim=1) + positions.to(patches.dtype)
        return TrunkTokens(visual.ln_pre(tokens), grid)

    def run_block(self, block: Block, tokens: Tensor, rope: Tensor | None) -> Tensor:
        return block(tokens)

    def parameters_unused_by_dense(self) -> Iterable[nn.Parameter]:
        # Query and key weights of the last block, where they are not packed with the values.
        attention = self.blocks[-1].attn
        return (
            []
            if attention.q_proj_weight is None
            else [attention.q_proj_weight, attention.k_proj_weight]
        )

    def attend_alone(self, block: Block, tokens: Tensor) -> Tensor:
        attention = block.attn
        start = 2 * attention.embed_dim
        if attention.in_proj_weight is None:  # query, key and value apart, as CAT-Seg trains them
            weight = attention.v_proj_weight
        else:
            weight = attention.in_proj_weight[start:]
        bias = None if attention.in_proj_bias is None else attention.in_proj_bias[start:]
        value = F.linear(block.ln_1(tokens), weight, bias)
        return self.finish_attention(block, tokens, value)

    def attention_heads(self, block: Block, tokens: Tensor, rope: Tensor | None) -> AttentionHeads:
        attention = block.attn
        weights = (
            (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
            if attention.in_proj_weight is None
            else attention.in_proj_weight.chunk(3)
        )
        bias = attention.in_proj_bias
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        tokens = block.ln_1(tokens)
        split = (attention.num_heads, -1)
        return AttentionHeads(
            *(
                F.linear(tokens, weight, bias).unflatten(2, split).transpose(1, 2)
                for weight, bias in zip(weights, biases, strict=True)
            )
        )

    def finish_attention(self, block: Block, tokens: Tensor, mixed: Tensor) -> Tensor:
        return block.ls_1(block.attn.out_proj(mixed))

    def feed_forward(self, block: Block, tokens: Tensor) -> Tensor:
        return tokens + block.ls_2(block.mlp(block.ln_2(tokens)))

    def pool_and_project(self, tokens: Tensor) -> Tensor:
        pooled, _ = self.visual._pool(tokens)
        return self._project(pooled)

    def project_patches(self, tokens: Tensor) -> Tensor:
        return self._project(self.visual.ln_post(tokens[:, self.num_prefix_tokens :]))

    def _project(self, features: Tensor) -> Tensor:
        projection = self.visual.proj
        return features if projection is None else features @ projection
