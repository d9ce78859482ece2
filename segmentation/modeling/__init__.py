"""CAT-Seg in plain torch: cost aggregation on a CLIP model. Imports without detectron2."""

from segmentation.modeling.aggregator import CostAggregator
from segmentation.modeling.build import build_predictor, build_segmenter, load_checkpoint
from segmentation.modeling.class_text import ClassTextEncoder
from segmentation.modeling.finetune import (
    FINETUNE_MODES,
    apply_finetune_mode,
    parameter_groups,
)
from segmentation.modeling.predictor import Predictor, SegmentationHead, default_taps
from segmentation.modeling.reading import choose_residual
from segmentation.modeling.segmenter import Segmenter
from segmentation.modeling.split_attention import SplitAttention, split_attention_weights
from segmentation.modeling.windows import SlidingWindows

__all__ = [
    "FINETUNE_MODES",
    "ClassTextEncoder",
    "CostAggregator",
    "Predictor",
    "SegmentationHead",
    "Segmenter",
    "SlidingWindows",
    "SplitAttention",
    "apply_finetune_mode",
    "build_predictor",
    "build_segmenter",
    "choose_residual",
    "default_taps",
    "load_checkpoint",
    "parameter_groups",
    "split_attention_weights",
]
