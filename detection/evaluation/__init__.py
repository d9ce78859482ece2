"""Open-vocabulary detection metrics for mmdet 3.x; registers its classes on import."""

from detection.evaluation.average_precision import (
    ap50_of_groups,
    ap50_per_category,
    coco_results,
    evaluate_coco,
    evaluate_lvis,
)
from detection.evaluation.metrics import OpenVocabularyCocoMetric, OpenVocabularyLVISMetric

__all__ = [
    "OpenVocabularyCocoMetric",
    "OpenVocabularyLVISMetric",
    "ap50_of_groups",
    "ap50_per_category",
    "coco_results",
    "evaluate_coco",
    "evaluate_lvis",
]
