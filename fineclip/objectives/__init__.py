"""Objectives: pure functions from embeddings to losses."""

from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective, compared_fields, needed_fields
from fineclip.objectives.clipself import CLIPSelfDistillation
from fineclip.objectives.concept_matching import RegionConceptMatching
from fineclip.objectives.contrastive import (
    GlobalContrastive,
    RegionContrastive,
    ViewContrastive,
)
from fineclip.objectives.filip import FILIP
from fineclip.objectives.gloria import GLoRIA
from fineclip.objectives.local_to_global import LocalToGlobalDistillation
from fineclip.objectives.mgca import MGCA
from fineclip.objectives.pacl import PACL
from fineclip.objectives.regionclip import RegionCLIPLoss, pseudo_labels
from fineclip.objectives.self_distillation import SelfDistillation
from fineclip.objectives.sigmoid import (
    SigmoidGlobalContrastive,
    SigmoidRegionContrastive,
    SigmoidViewContrastive,
)
from fineclip.objectives.sparc import SPARC

__all__ = [
    "CLIPSelfDistillation",
    "Embeddings",
    "FILIP",
    "GLoRIA",
    "GlobalContrastive",
    "LocalToGlobalDistillation",
    "MGCA",
    "Objective",
    "PACL",
    "RegionCLIPLoss",
    "RegionConceptMatching",
    "RegionContrastive",
    "SPARC",
    "SelfDistillation",
    "SigmoidGlobalContrastive",
    "SigmoidRegionContrastive",
    "SigmoidViewContrastive",
    "ViewContrastive",
    "compared_fields",
    "needed_fields",
    "pseudo_labels",
]
