"""The zero-shot tasks by name: which files each needs, its data set and its metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.evaluator import BaseMetric
from torch.utils.data import Dataset

from fineclip.datasets.coco_layout import EvaluationFiles
from fineclip.datasets.evaluation import box_regions, image_captions
from fineclip.datasets.transforms import ImageTransform
from fineclip.evaluation.box_classification import BoxClassificationMetric
from fineclip.evaluation.retrieval import RetrievalMetric
from fineclip.text.tokenizers import Tokenizer
from fineclip.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Task:
    """What :func:`fineclip.evaluation.runner.evaluate` needs for one task.

    Args:
        dataset: Items for ``collate_evaluation``.
        metric: Its metric.
        source: The annotation file that is evaluated.
    """

    dataset: Dataset
    metric: BaseMetric
    source: Path | None


TASKS = ("box_classification", "retrieval")


def build_task(
    name: str,
    files: EvaluationFiles,
    *,
    transform: ImageTransform,
    tokenizer: Tokenizer,
    vocabulary: str | Vocabulary | Sequence[str] | None = None,
    templates: str | Sequence[str] = "vild",
) -> Task:
    """Builds a task on the files of a split.

    Box classification takes panoptic annotations and, where there are none, instances.

    Args:
        name: One of :data:`TASKS`.
        files: Files of the split.
        transform: Geometry of the network input.
        tokenizer: The model's tokenizer.
        vocabulary: Candidate classes of box classification; None: those of the annotations.
        templates: Prompts of box classification.

    Returns:
        The task.

    Raises:
        ValueError: Unknown task, templates or vocabulary, or malformed annotations.
        FileNotFoundError: The files that the task needs are missing.
    """
    if name == "retrieval":
        captions = image_captions(files=files, transform=transform, tokenizer=tokenizer)
        return Task(captions, RetrievalMetric(), files.captions)
    if name == "box_classification":
        regions = box_regions(files=files, transform=transform, vocabulary=vocabulary)
        metric = BoxClassificationMetric(templates=templates)
        return Task(regions, metric, files.panoptic or files.instances)
    raise ValueError(f"unknown task {name!r}: expected one of {', '.join(TASKS)}")
