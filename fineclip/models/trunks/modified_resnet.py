"""open_clip's ``ModifiedResNet`` (OpenAI's RN50, RN101, RN50x4, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from torch import Tensor

from fineclip.models.dense_maps import DENSE_MAPS, DenseMap
from fineclip.models.trunks.base import Trunk, TrunkTaps
from fineclip.positions import resample_position_table

_STRIDE = 32  # stem 4, then 2 in each of the last three stages


class ModifiedResNetTrunk(Trunk):
    """Adapter for ``open_clip.modified_resnet.ModifiedResNet``.

    The one attention of this tower is its pooling, so the global and the dense path share stem
    and all four stages, and differ in what they make of the last map (C, h, w) at stride 32,
    which plays the part of the patch:

    - global: the attention pool. Its query is the mean of the map with the position of the
      pooled token, its keys and values the mean and every location with theirs; the position
      table is resampled to the grid of the input.
    - patches: the same attention pool with every location as a query of its own.
    - dense: value projection and output projection of that pool at every location, a pair of
      1x1 convolutions without positions (MaskCLIP). This is what the pool would
      return for a location it attends alone; with a table of zeros, pooling a constant map
      gives the same answer on both paths.

    Query and key projection and the positions take no part in the dense path and get no
    gradient from it. Taps (:meth:`forward_taps`) are the outputs of the four stages, at strides
    4, 8, 16 and 32: a feature pyramid as it is (F-VLM, sec. 3.2). open_clip offers no gradient
    checkpointing for this tower. How batch normalisation behaves in training is ``DenseCLIP``'s
    ``freeze_batch_norm``.

    Args:
        visual: The tower.
    """

    patch_size = (_STRIDE, _STRIDE)

    def __init__(self, visual: ModifiedResNet) -> None:
        self.visual = visual

    def forward_shared(self, images: Tensor) -> Tensor:
        """Stem and the four stages: the map (B, C, h, w) that both heads read."""
        return self.forward_taps(images, (len(self.stages) - 1,)).maps[0]

    @property
    def stages(self) -> Sequence[Any]:
        visual = self.visual
        return (visual.layer1, visual.layer2, visual.layer3, visual.layer4)

    def tap_channels(self, index: int) -> int:
        return self.stages[index][-1].bn3.num_features

    def tap_stride(self, index: int) -> tuple[int, int]:
        stride = _STRIDE >> (len(self.stages) - 1 - index)
        return (stride, stride)

    def forward_taps(
        self, images: Tensor, taps: Sequence[int], *, dense: bool = False
    ) -> TrunkTaps:
        last = self._last_stage(taps, dense)
        self.grid_size(*images.shape[-2:])  # the convolutions would silently round sizes up
        features, found = self.visual.stem(images), {}
        for index, stage in enumerate(self.stages[: last + 1]):
            features = stage(features)
            if index in taps:
                found[index] = features
        dense_map = self.dense_head(features) if dense else None
        return TrunkTaps(tuple(found[tap] for tap in taps), dense_map)

    def global_head(self, state: Tensor) -> Tensor:
        """Attention pool: the image embedding (B, D), raw."""
        return _attention_pool(self.visual.attnpool, state, num_queries=1)[:, 0]

    def global_and_patch_heads(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Attention pool asked by its own query and by every location: (B, D) and (B, N, D)."""
        pooled = _attention_pool(self.visual.attnpool, state)
        return pooled[:, 0], pooled[:, 1:]

    def dense_head(
        self, state: Tensor, how: DenseMap = DENSE_MAPS["value"], guide: Tensor | None = None
    ) -> Tensor:
        """Value and output projection of the attention pool at every location (B, D, h, w)."""
        if how != DENSE_MAPS["value"]:
            raise ValueError("ResNets have the dense map 'value' alone: others are of transformers")
        pool = self.visual.attnpool
        return pool.c_proj(pool.v_proj(state.movedim(1, -1))).movedim(-1, 1)


def _attention_pool(
    pool: AttentionPool2d, features: Tensor, num_queries: int | None = None
) -> Tensor:
    """``AttentionPool2d.forward`` for maps of any size, with any of its 1 + N tokens as queries.

    Args:
        pool: The attention pool.
        features: (B, C, h, w).
        num_queries: Leading tokens that are queries, the pooled one first; None: all.

    Returns:
        (B, num_queries, D).
    """
    grid = (features.shape[-2], features.shape[-1])
    old_side = isqrt(len(pool.positional_embedding) - 1)
    positions = resample_position_table(pool.positional_embedding, (old_side, old_side), grid)
    tokens = features.flatten(2).permute(2, 0, 1)  # (N, B, C)
    tokens = torch.cat([tokens.mean(dim=0, keepdim=True), tokens])  # (1 + N, B, C)
    tokens = tokens + positions[:, None].to(tokens.dtype)
    pooled, _ = F.multi_head_attention_forward(
        query=tokens[:num_queries],
        key=tokens,
        value=tokens,
        embed_dim_to_check=tokens.shape[-1],
        num_heads=pool.num_heads,
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.c_proj.weight,
        out_proj_bias=pool.c_proj.bias,
        training=False,  # there is no dropout
        need_weights=False,
        use_separate_proj_weight=True,
        q_proj_weight=pool.q_proj.weight,
        k_proj_weight=pool.k_proj.weight,
        v_proj_weight=pool.v_proj.weight,
    )
    return pooled.transpose(0, 1)
