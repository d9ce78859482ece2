"""Objectives: pure functions from embeddings to losses."""

from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective
from fineclip.objectives.contrastive import GlobalContrastive, RegionContrastive
from fineclip.objectives.self_distillation import SelfDistillation

__all__ = [
    "Embeddings",
    "GlobalContrastive",
    "Objective",
    "RegionContrastive",
    "SelfDistillation",
]
