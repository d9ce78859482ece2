"""timm's ``VisionTransformer`` with attention pooling inside open_clip's ``TimmModel`` (SigLIP)."""

from __future__ import annotations

import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from timm.layers import AttentionPoolLatent, PatchEmbed
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block as ViTBlock
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from fineclip.models.dense_maps import AttentionHeads
from fineclip.models.trunks.base import Block, Pooling, TrunkTokens
from fineclip.models.trunks.timm_base import TimmTrunk


class TimmViTTrunk(TimmTrunk):
    """Adapter for ``TimmModel`` around ``timm.models.vision_transformer.VisionTransformer``.

    SigLIP and SigLIP 2 have no class token and no projection: a learned query pools the patch
    tokens, and an MLP with a residual around it ends in the shared space. With ``norm`` the final
    norm and ``pool`` that head, the embeddings are::

        global    pool(norm(block(tokens)))             pool attends all N tokens
        dense_i   pool(norm(block_alone(tokens)_i))     pool attends token i alone

    ``block`` is the last block and ``block_alone`` the same block with every token attending
    itself alone (:meth:`dense_head`). Attention to a single token has weight 1 whatever the
    query, so pooling one location is its value projection, the output projection, and the MLP
    with its residual. Hence pooling a constant map, or an image of a single patch, gives the
    same answer on both paths, and dense features live where the text embeddings do. The learned
    query itself takes no part in the dense path and gets no gradient from it.

    ``ViT-SO400M-14-SigLIP-384`` names a size that is no multiple of its patch; use 378 pixels,
    which is what its own patch embedding reads of 384.

    Args:
        visual: The tower.

    Raises:
        ValueError: For variants whose dense features are not defined here: other pooling, class
            or register tokens, other block, attention or patch embedding types, or patch dropout.
    """

    num_prefix_tokens = 0

    def __init__(self, visual: TimmModel) -> None:
        trunk = visual.trunk
        if not isinstance(trunk, VisionTransformer):
            raise ValueError(f"expected a timm VisionTransformer, got {type(trunk).__name__}")
        supported = (
            isinstance(trunk.attn_pool, AttentionPoolLatent)
            and trunk.num_prefix_tokens == 0
            and type(trunk.patch_embed) is PatchEmbed
            and all(type(b) is ViTBlock and type(b.attn) is Attention for b in trunk.blocks)
        )
        if not supported:
            raise ValueError(
                "only SigLIP style timm VisionTransformers are supported: attention pooling "
                "(global_pool='map'), no class or register tokens, plain patch embedding and blocks"
            )
        if not isinstance(trunk.patch_drop, nn.Identity):
            raise ValueError("patch dropout removes positions of the dense map: set it to 0")
        self.visual = visual
        self.trunk = trunk
        self.patch_size = tuple(trunk.patch_embed.patch_size)

    @property
    def pooling(self) -> Pooling:
        return "attention"

    def embed(self, images: Tensor) -> TrunkTokens:
        grid = self.grid_size(*images.shape[-2:])
        return TrunkTokens(self._add_positions(self._patches(images), grid), grid)

    def run_block(self, block: Block, tokens: Tensor, rope: Tensor | None) -> Tensor:
        return block(tokens)

    def attend_alone(self, block: Block, tokens: Tensor) -> Tensor:
        return self.finish_attention(block, tokens, _own_value(block.attn, block.norm1(tokens)))

    def attention_heads(self, block: Block, tokens: Tensor, rope: Tensor | None) -> AttentionHeads:
        attention = block.attn
        packed = attention.qkv(block.norm1(tokens)).unflatten(2, (3, attention.num_heads, -1))
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        return AttentionHeads(attention.q_norm(query), attention.k_norm(key), value)

    def finish_attention(self, block: Block, tokens: Tensor, mixed: Tensor) -> Tensor:
        attention = block.attn
        mixed = attention.norm(mixed)
        if attention.gate is not None:
            mixed = mixed * attention.gate(block.norm1(tokens)).sigmoid()
        return block.drop_path1(block.ls1(attention.proj_drop(attention.proj(mixed))))

    def feed_forward(self, block: Block, tokens: Tensor) -> Tensor:
        return tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))

    def pool_and_project(self, tokens: Tensor) -> Tensor:
        return self._project(self.trunk.pool(self.trunk.norm(tokens)))

    def project_patches(self, tokens: Tensor) -> Tensor:
        return self._project(_pool_each_alone(self.trunk.attn_pool, self.trunk.norm(tokens)))

    def _project(self, features: Tensor) -> Tensor:
        trunk = self.trunk
        return self.visual.head(trunk.head(trunk.head_drop(trunk.fc_norm(features))))


def _own_value(attention: Attention, tokens: Tensor) -> Tensor:
    """Values of all heads. (B, N, C) -> (B, N, heads * head_dim)."""
    # The packed projection holds query, key and value in this order.
    start = 2 * attention.attn_dim
    bias = None if attention.qkv.bias is None else attention.qkv.bias[start:]
    return F.linear(tokens, attention.qkv.weight[start:], bias)


def _pool_each_alone(pool: AttentionPoolLatent, tokens: Tensor) -> Tensor:
    """The attention pool on every token as if there were no other. (B, N, C) -> (B, N, C)."""
    # The packed projection holds key and value in this order.
    start = pool.kv.out_features // 2
    bias = None if pool.kv.bias is None else pool.kv.bias[start:]
    pooled = pool.proj_drop(pool.proj(F.linear(tokens, pool.kv.weight[start:], bias)))
    return pooled + pool.mlp(pool.norm(pooled))
