"""CLIP models with dense and region embeddings, and the pretrainer."""

from fineclip.models import tiny  # noqa: F401  (registers the tiny model names)
from fineclip.models.dense_clip import DenseCLIP
from fineclip.models.preprocessor import RegionTextPreprocessor
from fineclip.models.pretrainer import FineCLIPPretrainer

__all__ = ["DenseCLIP", "FineCLIPPretrainer", "RegionTextPreprocessor"]
