"""Metrics of semantic segmentation; the evaluator needs detectron2, the maths does not."""

from importlib.util import find_spec

from fineclip.evaluation.confusion import SegmentationScores, count_confusion
from segmentation.evaluation.tables import per_class_table

__all__ = ["SegmentationScores", "count_confusion", "per_class_table"]

if find_spec("detectron2") is not None:
    from segmentation.evaluation.semantic import SemanticSegmentationEvaluator

    __all__ += ["SemanticSegmentationEvaluator"]
