"""Tiny models for tests, demos and the built-in scenes, under open_clip names.

``ViT-Ti-16``, ``EVA02-Ti-16``, ``Sigmoid-Ti-16`` and ``RN-Ti`` are shrunk copies of ``ViT-B-16``,
``EVA02-B-16``, ``ViT-B-16-SigLIP`` and ``RN50``; ``ViT-Ti-8-scenes`` is the model of the
quickstart. All start from random weights and use CLIP's tokenizer. (For a name that contains
"siglip", open_clip would download SigLIP's.) To train ``RN-Ti`` from these weights, make it with
``freeze_batch_norm=False``: the statistics it starts with fit no data.
"""

from pathlib import Path
from typing import Any

import open_clip
from timm.models import register_model
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer


@register_model
def eva02_micro_patch16_clip_64(pretrained: bool = False, **kwargs: Any) -> Eva:
    """EVA02-CLIP tower of three blocks, otherwise as timm's ``eva02_base_patch16_clip_224``.

    Raises:
        ValueError: If pretrained weights are asked for; there are none.
    """
    _refuse_pretrained("eva02_micro_patch16_clip_64", pretrained)
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
        # would only blow up the gradients of everything before it.
        "head_init_scale": 1.0,
    }
    return Eva(**{**options, **_architecture_options(kwargs)})


@register_model
def vit_micro_patch16_siglip_64(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
    """SigLIP tower of three blocks, otherwise as timm's ``vit_base_patch16_siglip_224``.

    Raises:
        ValueError: If pretrained weights are asked for; there are none.
    """
    _refuse_pretrained("vit_micro_patch16_siglip_64", pretrained)
    options: dict[str, Any] = {
        "img_size": 64,
        "patch_size": 16,
        "embed_dim": 96,
        "depth": 3,
        "num_heads": 3,
        "class_token": False,
        "global_pool": "map",
    }
    return VisionTransformer(**{**options, **_architecture_options(kwargs)})


def _refuse_pretrained(name: str, pretrained: bool) -> None:
    if pretrained:
        raise ValueError(f"{name} has no pretrained weights")


def _architecture_options(kwargs: dict[str, Any]) -> dict[str, Any]:
    """What timm passes to a model function, without timm's own bookkeeping."""
    bookkeeping = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
    return {name: value for name, value in kwargs.items() if name not in bookkeeping}


open_clip.add_model_config(Path(__file__).parent)
