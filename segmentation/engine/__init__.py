"""Training and evaluation of CAT-Seg on detectron2's trainer; needs detectron2."""

from segmentation.engine.checkpointer import SafeCheckpointer
from segmentation.engine.config import check_inputs, load_config
from segmentation.engine.inference import evaluate, summary_table
from segmentation.engine.loader import build_train_loader
from segmentation.engine.progress import ProgressBar
from segmentation.engine.trainer import SegmentationTrainer

__all__ = [
    "ProgressBar",
    "SafeCheckpointer",
    "SegmentationTrainer",
    "build_train_loader",
    "check_inputs",
    "evaluate",
    "load_config",
    "summary_table",
]
