"""One adapter per family of visual trunk."""

from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from timm.models.eva import Eva
from torch import nn

from fineclip.models.trunks.base import Trunk, TrunkTokens
from fineclip.models.trunks.open_clip_vit import OpenCLIPViTTrunk
from fineclip.models.trunks.timm_eva import TimmEvaTrunk


def build_trunk(visual: nn.Module) -> Trunk:
    """Chooses the adapter for the visual tower of an open_clip model.

    Raises:
        ValueError: If no adapter knows the tower.
    """
    if isinstance(visual, VisionTransformer):
        return OpenCLIPViTTrunk(visual)
    if isinstance(visual, TimmModel) and isinstance(visual.trunk, Eva):
        return TimmEvaTrunk(visual)
    found = type(getattr(visual, "trunk", visual)).__name__
    raise ValueError(
        f"no trunk adapter for the visual tower {found}; known: open_clip's VisionTransformer, "
        "timm's Eva"
    )


__all__ = ["OpenCLIPViTTrunk", "TimmEvaTrunk", "Trunk", "TrunkTokens", "build_trunk"]
