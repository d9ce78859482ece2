"""CLIP models with dense and region embeddings, and the pretrainer."""

from fineclip.models import tiny  # noqa: F401  (registers the tiny model names)
from fineclip.models.dense_clip import DenseCLIP
from fineclip.models.ema_teacher import EMATeacher
from fineclip.models.frozen_teacher import FrozenTeacher
from fineclip.models.preprocessor import RegionTextPreprocessor
from fineclip.models.pretrainer import FineCLIPPretrainer
from fineclip.models.prototype_head import PrototypeHead

__all__ = [
    "DenseCLIP",
    "EMATeacher",
    "FineCLIPPretrainer",
    "FrozenTeacher",
    "PrototypeHead",
    "RegionTextPreprocessor",
]
