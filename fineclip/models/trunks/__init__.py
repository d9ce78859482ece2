"""One adapter per family of visual trunk."""

from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.eva import Eva
from timm.models.naflexvit import NaFlexVit
from timm.models.vision_transformer import VisionTransformer as TimmVisionTransformer
from torch import nn

from fineclip.models.trunks.base import (
    Residual,
    TransformerTrunk,
    Trunk,
    TrunkTaps,
    TrunkTokens,
)
from fineclip.models.trunks.modified_resnet import ModifiedResNetTrunk
from fineclip.models.trunks.open_clip_vit import OpenCLIPViTTrunk
from fineclip.models.trunks.timm_eva import TimmEvaTrunk
from fineclip.models.trunks.timm_vit import TimmViTTrunk


def build_trunk(visual: nn.Module) -> Trunk:
    """Chooses the adapter for the visual tower of an open_clip model.

    Raises:
        ValueError: If no adapter knows the tower.
    """
    if isinstance(visual, VisionTransformer):
        return OpenCLIPViTTrunk(visual)
    if isinstance(visual, ModifiedResNet):
        return ModifiedResNetTrunk(visual)
    if isinstance(visual, TimmModel) and isinstance(visual.trunk, Eva):
        return TimmEvaTrunk(visual)
    if isinstance(visual, TimmModel) and isinstance(visual.trunk, TimmVisionTransformer):
        return TimmViTTrunk(visual)
    inner = getattr(visual, "trunk", visual)
    if isinstance(inner, NaFlexVit):
        raise ValueError(
            "NaFlex towers (NaFlexVit) are not supported: they read lists of patches, not "
            "images. Take the fixed-resolution model of the same size, such as ViT-B-16-SigLIP2; "
            "its position table is resampled to any size and aspect ratio"
        )
    raise ValueError(
        f"no trunk adapter for the visual tower {type(inner).__name__}; known: open_clip's "
        "VisionTransformer and ModifiedResNet, timm's Eva (EVA02-CLIP) and VisionTransformer with "
        "attention pooling (SigLIP)"
    )


__all__ = [
    "ModifiedResNetTrunk",
    "OpenCLIPViTTrunk",
    "Residual",
    "TimmEvaTrunk",
    "TimmViTTrunk",
    "TransformerTrunk",
    "Trunk",
    "TrunkTaps",
    "TrunkTokens",
    "build_trunk",
]
