"""A segmenter that answers what it still knows: mIoU in one's own and in reference images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from torch import Tensor, nn

from fineclip.checkpoints import read_checkpoint
from fineclip.checkpoints.mixing import mixed_tensors
from fineclip.checkpoints.state_dict import state_dict_of
from fineclip.checkpoints.write import save_torch
from fineclip.datasets.description import DataDescription
from fineclip.datasets.label_maps import read_label_map
from fineclip.evaluation.confusion import SegmentationScores, count_confusion
from fineclip.experiments.examining import WEIGHTS, Part, Question, divided, splits_of
from fineclip.files import write_atomically
from fineclip.progress import track
from fineclip.text.templates import prompt_name
from fineclip.weights import CONFIG_FILE
from segmentation.data import build_dataset_mapper
from segmentation.data.described import register_described, set_name
from segmentation.data.registered import RegisteredSet, registered_set


class SegmenterExaminer:
    """A segmenter, filled with one mix of weights after another.

    Args:
        cfg: What it was trained with.
        start: Checkpoint of what was trained from.
        trained: The fine-tuned one; None: the start alone.
        own: Registered names of one's own data to choose by and to report on.
        reference: Likewise of the data that tell what is kept.
        seed: Of the division into parts.

    Attributes:
        images: Number of images of each side and part.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: Data without label maps, or too few images.
    """

    def __init__(
        self,
        cfg: CfgNode,
        start: Path,
        trained: str | None,
        *,
        own: Mapping[Part, str],
        reference: Mapping[Part, str],
        seed: int,
    ) -> None:
        self._cfg, self._start, self._trained = cfg, start, trained
        sets = {"own": own, "kept": reference}
        self._sets = {side: registered_set(names["report"]) for side, names in sets.items()}
        self._records = {
            (side, part): records
            for side, names in sets.items()
            for part, records in _parts(names, seed).items()
        }
        self.images = {f"{s} {p}": len(records) for (s, p), records in self._records.items()}
        self._mapper = build_dataset_mapper(cfg, is_train=False)
        self.model = build_model(cfg).eval()

    def load(self, alpha: float) -> None:
        """Takes ``alpha`` x the fine-tuned weights + ``1 - alpha`` x the start's.

        Raises:
            CheckpointError: A file that does not fit.
        """
        tensors = _tensors_of(self._start)
        if self._trained is not None:
            tensors = mixed_tensors(_tensors_of(Path(self._trained)), tensors, alpha)
        self.model.load_state_dict(tensors)
        self.model.train().eval()  # texts of other weights are forgotten

    def answer(self, question: Question) -> dict[str, float]:
        """MIoU in percent of the classes that occur."""
        own, kept = self._sets["own"], self._sets["kept"]
        asked, places = _asked(own, kept, question)
        counts = np.zeros((len(asked), len(asked)), dtype=np.int64)
        offsets = [question.offset * (i < len(own.class_names)) for i in range(len(asked))]
        side = self._sets[question.side]
        records = self._records[question.side, question.part]
        size = self._cfg.TEST.IMS_PER_BATCH
        batches = [records[i : i + size] for i in range(0, len(records), size)]
        device = torch.device(self._cfg.MODEL.DEVICE).type
        title = f"{question.side}, alpha {question.alpha:g}"
        with (
            _added(self.model.sem_seg_head, offsets),
            torch.autocast(device, torch.bfloat16, enabled=self._cfg.TEST.AMP),
        ):
            for batch in track(batches, title, "batch"):
                for record, labels in zip(batch, self._labels(batch, asked), strict=True):
                    counts += _counted(record, labels, side, places, len(asked))
        scores = SegmentationScores.from_confusion(counts)
        found = {"miou": scores.mean_iou()}
        if question.side == "kept" and side.seen is not None:
            seen = np.isin(np.arange(len(asked)), places[np.isin(side.class_names, side.seen)])
            found = {
                "base_miou": scores.mean_iou(seen.tolist()),
                "novel_miou": scores.mean_iou((~seen).tolist()),
                **found,
            }
        return {name: 100 * value for name, value in found.items() if not math.isnan(value)}

    def write(self, folder: Path) -> None:
        """Writes the loaded weights and the configuration that segments with them."""
        save_torch(folder / WEIGHTS, {"model": self.model.state_dict()})
        write_atomically(folder / CONFIG_FILE, self._cfg.dump())

    def _labels(self, batch: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Tensor]:
        inputs = [self._mapper(record) for record in batch]
        sizes = [(entry["height"], entry["width"]) for entry in inputs]
        found = self.model.predict_labels([entry["image"] for entry in inputs], sizes, names)
        return [answer.labels for answer in found]


def sets_of(description: DataDescription) -> dict[Part, str]:
    """Registered names of what is chosen by and reported on."""
    splits = splits_of(description)
    for split in splits.values():
        description.require(split, "masks")
    register_described([description.file])
    return {part: set_name(description, split) for part, split in splits.items()}


def _parts(names: Mapping[Part, str], seed: int) -> dict[Part, list[dict[str, Any]]]:
    records = {part: DatasetCatalog.get(name) for part, name in names.items()}
    return dict(divided(records["report"], seed)) if names["choose"] == names["report"] else records


def _asked(
    own: RegisteredSet, kept: RegisteredSet, question: Question
) -> tuple[list[str], np.ndarray]:
    """Names to ask for, and the place among them of each class of the question's side."""
    if not question.together:
        names = list({"own": own, "kept": kept}[question.side].prompt_names)
        return names, np.arange(len(names))
    names = list(own.prompt_names)
    place_of = {_reading(name): place for place, name in enumerate(names)}
    for name in kept.prompt_names:
        if _reading(name) not in place_of:
            place_of[_reading(name)] = len(names)
            names.append(name)
    side = own if question.side == "own" else kept
    return names, np.array([place_of[_reading(name)] for name in side.prompt_names])


def _reading(name: str) -> str:
    return " ".join(prompt_name(name).split())


def _counted(
    record: Mapping[str, Any],
    predicted: Tensor,
    side: RegisteredSet,
    places: np.ndarray,
    number: int,
) -> np.ndarray:
    true = read_label_map(
        record["sem_seg_file_name"],
        num_classes=len(side.class_names),
        ignore_label=side.ignore_label,
        label_map=record.get("label_map"),
    )
    known = true != side.ignore_label
    moved = np.full(true.shape, -1, dtype=np.int64)
    moved[known] = places[true[known]]
    return count_confusion(moved, predicted.cpu().numpy(), number, -1)


@contextmanager
def _added(head: nn.Module, offsets: Sequence[float]) -> Iterator[None]:
    """Adds to the logits (B, T, h, w) of T classes in the block."""
    values = torch.tensor(offsets)[:, None, None]
    hook = head.register_forward_hook(lambda _, given, out: out + values.to(out))
    try:
        yield
    finally:
        hook.remove()


def _tensors_of(file: Path) -> dict[str, Tensor]:
    return dict(state_dict_of(read_checkpoint(file, mmap=True), file))
