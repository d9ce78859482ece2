"""The parts of F-ViT, registered in mmdet's registries."""

from detection.models.backbone import FViTBackbone
from detection.models.bbox_head import FViTBBoxHead
from detection.models.detector import FViT
from detection.models.losses import ClassMaskedCrossEntropy, class_weights
from detection.models.roi_head import FViTRoIHead
from detection.models.rpn_head import FViTRPNHead
from detection.models.samplers import ImageSeededSampler

__all__ = [
    "ClassMaskedCrossEntropy",
    "FViT",
    "FViTBBoxHead",
    "FViTBackbone",
    "FViTRPNHead",
    "FViTRoIHead",
    "ImageSeededSampler",
    "class_weights",
]
