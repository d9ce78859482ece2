"""Tiny models for tests, demos and the built-in scenes, under open_clip names.

``ViT-Ti-16`` and ``EVA02-Ti-16`` are shrunk copies of ``ViT-B-16`` and ``EVA02-B-16``;
``ViT-Ti-8-scenes`` is the model of the quickstart. All start from random weights.
"""

from pathlib import Path
from typing import Any

import open_clip
from timm.models import register_model
from timm.models.eva import Eva


@register_model
def eva02_micro_patch16_clip_64(pretrained: bool = False, **kwargs: Any) -> Eva:
    """EVA02-CLIP tower of three blocks, otherwise as timm's ``eva02_base_patch16_clip_224``.

    Raises:
        ValueError: If pretrained weights are asked for; there are none.
    """
    if pretrained:
        raise ValueError("eva02_micro_patch16_clip_64 has no pretrained weights")
    options: dict[str, Any] = {
        "img_size": 64,
        "patch_size": 16,
        "embed_dim": 96,
        "depth": 3,
        "num_heads": 3,
        "qkv_fused": False,
        "mlp_ratio": 4 * 2 / 3,
        "swiglu_mlp": True,
        "scale_mlp": True,
        "scale_attn_inner": True,
        "use_rot_pos_emb": True,
        "ref_feat_shape": (16, 16),
        "global_pool": "token",
        # timm starts the head near zero, for classification; embeddings are normalised, so that
        # would only blow up the gradients of everything in front of it.
        "head_init_scale": 1.0,
    }
    # timm passes its own bookkeeping along with the architecture's options.
    for name in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        kwargs.pop(name, None)
    return Eva(**{**options, **kwargs})


open_clip.add_model_config(Path(__file__).parent / "configs")
