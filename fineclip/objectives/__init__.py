"""Objectives: pure functions from embeddings to losses."""

from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective, compared_fields, needed_fields
from fineclip.objectives.clipself import CLIPSelfDistillation
from fineclip.objectives.contrastive import GlobalContrastive, RegionContrastive
from fineclip.objectives.filip import FILIP
from fineclip.objectives.local_to_global import LocalToGlobalDistillation
from fineclip.objectives.pacl import PACL
from fineclip.objectives.regionclip import RegionCLIPLoss, pseudo_labels
from fineclip.objectives.self_distillation import SelfDistillation
from fineclip.objectives.sigmoid import SigmoidGlobalContrastive, SigmoidRegionContrastive
from fineclip.objectives.sparc import SPARC

__all__ = [
    "CLIPSelfDistillation",
    "Embeddings",
    "FILIP",
    "GlobalContrastive",
    "LocalToGlobalDistillation",
    "Objective",
    "PACL",
    "RegionCLIPLoss",
    "RegionContrastive",
    "SPARC",
    "SelfDistillation",
    "SigmoidGlobalContrastive",
    "SigmoidRegionContrastive",
    "compared_fields",
    "needed_fields",
    "pseudo_labels",
]
