"""Open-vocabulary detection data sets for mmdet 3.x; registers its classes on import."""

from detection.datasets.annotations import CocoAnnotations, LvisAnnotations, read_annotations
from detection.datasets.open_vocabulary import OpenVocabularyCocoDataset, OpenVocabularyLVISDataset
from detection.datasets.preparation import prepare_ov_coco, prepare_ov_lvis

__all__ = [
    "CocoAnnotations",
    "LvisAnnotations",
    "OpenVocabularyCocoDataset",
    "OpenVocabularyLVISDataset",
    "prepare_ov_coco",
    "prepare_ov_lvis",
    "read_annotations",
]
