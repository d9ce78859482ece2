"""Evaluation of a segmenter on the data sets of a configuration, each with its own classes."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, build_detection_test_loader
from detectron2.data.samplers import InferenceSampler
from detectron2.evaluation import inference_on_dataset
from detectron2.utils import comm
from torch import Tensor, nn

from fineclip.files import write_atomically
from fineclip.images import UnusableImageError
from fineclip.text import load_vocabulary
from segmentation.data import build_dataset_mapper
from segmentation.data.registered import registered_set
from segmentation.evaluation import SemanticSegmentationEvaluator
from segmentation.modeling import Segmenter

RESULTS_FILE = "results.json"
_COLUMNS = ("mIoU", "mIoU-all", "mAcc", "fwIoU", "mIoU-seen", "mIoU-unseen")


class LabelPredictor(nn.Module):
    """Answers detectron2's inputs with the best class of every pixel.

    Scores of all classes at an image's size, which large vocabularies make gigabytes of, are never
    held.

    Args:
        model: The segmenter.
        names: Class names.
    """

    def __init__(self, model: Segmenter, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)
        self.training = model.training

    def forward(self, batched_inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Tensor]]:
        """Dicts with ``image``, ``height``, ``width`` -> dicts with ``sem_seg_labels`` (H, W).

        An input without ``image``, which could not be read, is answered with an empty dict.
        """
        readable = [inputs for inputs in batched_inputs if "image" in inputs]
        if not readable:
            return [{} for _ in batched_inputs]
        found = iter(
            self.model.predict_labels(
                [inputs["image"] for inputs in readable],
                [(inputs["height"], inputs["width"]) for inputs in readable],
                self.names,
            )
        )
        return [
            {"sem_seg_labels": next(found).labels} if "image" in inputs else {}
            for inputs in batched_inputs
        ]


class SkippingMapper:
    """Maps records for evaluation; of an image that cannot be used, it says so.

    Args:
        mapper: Record -> input.
    """

    def __init__(self, mapper: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        self.mapper = mapper

    def __call__(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """The input, or ``file_name`` and ``skipped``: its (file, reason)."""
        try:
            return self.mapper(record)
        except UnusableImageError as error:
            skipped = (error.file, error.reason)
            return {"file_name": record["file_name"], "skipped": skipped}


def evaluation_classes(cfg: CfgNode, dataset_name: str) -> tuple[str, ...]:
    """Names that a data set is evaluated with.

    ``MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON`` where it is the only one and there is a list; otherwise
    the data set's own (``prompt_classes`` of its metadata, or ``stuff_classes``).
    """
    source = cfg.MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON
    if source and len(cfg.DATASETS.TEST) == 1:
        return load_vocabulary(source).prompt_names
    return registered_set(dataset_name, "DATASETS.TEST").prompt_names


def evaluate(cfg: CfgNode, model: nn.Module) -> dict[str, dict[str, float]]:
    """Evaluates on every data set of ``DATASETS.TEST``, one after the other.

    Per set ``OUTPUT_DIR/inference/NAME/`` holds what the evaluator writes; ``OUTPUT_DIR`` gets
    ``results.json`` with all of them.

    Args:
        cfg: ``TEST.POOLING_SIZES`` replaces the pooling of training, which has no weights;
            ``TEST.IMS_PER_BATCH`` images are answered at a time.
        model: The segmenter, or it in DistributedDataParallel.

    Returns:
        Results by data set, in percent; empty on all processes but the first.

    Raises:
        FileNotFoundError: Data are missing.
        UnusableImageError: Too many files of a data set cannot be used, or all.
        ValueError: A file has not the content that it should; the message names it.
    """
    segmenter: Any = getattr(model, "module", model)
    results = {}
    for name in cfg.DATASETS.TEST:
        records = DatasetCatalog.get(name)
        loader = build_detection_test_loader(
            records,
            mapper=SkippingMapper(build_dataset_mapper(cfg, is_train=False)),
            sampler=InferenceSampler(len(records)),
            batch_size=cfg.TEST.IMS_PER_BATCH,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )
        evaluator = SemanticSegmentationEvaluator(
            name, output_dir=Path(cfg.OUTPUT_DIR) / "inference" / name
        )
        device = torch.device(cfg.MODEL.DEVICE).type
        with pooling_set_to(segmenter, cfg.TEST.POOLING_SIZES):
            predictor = LabelPredictor(segmenter, evaluation_classes(cfg, name))
            with torch.autocast(device, torch.bfloat16, enabled=cfg.TEST.AMP):
                found = inference_on_dataset(predictor, loader, evaluator)
        if comm.is_main_process():
            results[name] = dict(found["sem_seg"])
    if comm.is_main_process():
        # JSON has no NaN.
        plain = {
            name: {k: None if math.isnan(v) else v for k, v in scores.items()}
            for name, scores in results.items()
        }
        write_atomically(Path(cfg.OUTPUT_DIR) / RESULTS_FILE, json.dumps(plain, indent=1) + "\n")
        logging.getLogger(__name__).info("\n%s", summary_table(results))
    return results


@contextmanager
def pooling_set_to(model: Segmenter, sizes: Sequence[int]) -> Iterator[None]:
    """Sets the pooling of the class attention for the block; no sizes: as it is."""
    network = model.sem_seg_head.predictor.transformer
    before = network.pooling_size
    if sizes:
        network.pooling_size = (int(sizes[0]), int(sizes[1]))
    try:
        yield
    finally:
        network.pooling_size = before


def summary_table(results: Mapping[str, Mapping[str, float]]) -> str:
    """One line per data set: mIoU of occurring and of all classes, mAcc, fwIoU, (un)seen mIoU."""
    width = max([len("data set"), *(len(name) for name in results)])
    lines = ["  ".join([f"{'data set':<{width}}", *(f"{c:>11}" for c in _COLUMNS)])]
    for name, scores in results.items():
        cells = (f"{scores[c]:>11.2f}" if c in scores else f"{'-':>11}" for c in _COLUMNS)
        lines.append("  ".join([f"{name:<{width}}", *cells]))
    return "\n".join(lines)
