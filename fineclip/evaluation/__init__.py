"""Zero-shot evaluation: pure metric functions, mmengine metrics and loops."""

from fineclip.evaluation.box_classification import BoxClassificationMetric, box_classification
from fineclip.evaluation.folder import evaluate_folder
from fineclip.evaluation.loops import MultiTaskTestLoop, MultiTaskValLoop
from fineclip.evaluation.prediction import predict
from fineclip.evaluation.retrieval import RetrievalMetric, retrieval_recall
from fineclip.evaluation.runner import evaluate

__all__ = [
    "BoxClassificationMetric",
    "MultiTaskTestLoop",
    "MultiTaskValLoop",
    "RetrievalMetric",
    "box_classification",
    "evaluate",
    "evaluate_folder",
    "predict",
    "retrieval_recall",
]
