"""A detector that answers what it still knows: AP50 in one's own and in reference images."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import METRICS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch import Tensor

import detection.evaluation  # noqa: F401 - registers the metrics
from detection.finetuning.config import StartingDetector, described_data
from fineclip.checkpoints import load_trained, read_checkpoint
from fineclip.checkpoints.mixing import mixed_tensors
from fineclip.checkpoints.state_dict import state_dict_of
from fineclip.checkpoints.write import save_torch
from fineclip.command_line.described import vocabulary_setting
from fineclip.configuration.plain import write_plain_config
from fineclip.datasets.description import DataDescription, read_description
from fineclip.devices import default_device
from fineclip.experiments.examining import PARTS, WEIGHTS, Question, divided, splits_of
from fineclip.files import read_json, write_atomically
from fineclip.models import BACKGROUND, resolve_class_embeddings
from fineclip.progress import track
from fineclip.text import Vocabulary
from fineclip.text.joining import joined_vocabulary, reading_of
from fineclip.text.vocabulary import Split

_CLASSES = "roi_head.bbox_head.all_embeddings"
_LEARNED = "roi_head.bbox_head.learned_embeddings"
_GROUPS = ("base", "novel", "all")


class DetectorExaminer:
    """A detector, filled with one mix of weights after another.

    One's own classes are scored as base ones, but by the start, for which they are novel.

    Args:
        config: What it was trained with, see :func:`detection.finetuning.config.continued_config`.
        start: What was trained from.
        own: Description of one's own data.
        trained: The fine-tuned weights; None: the start alone.
        reference: Description of the data that tell what is kept; None: the start's own.
        folder: Annotation files of the parts are written here.
        seed: Of the division into parts.

    Attributes:
        images: Number of images of each side and part.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: Data without boxes, or too few images.
    """

    def __init__(
        self,
        config: Config,
        start: StartingDetector,
        own: DataDescription,
        trained: str | None,
        *,
        reference: str | None,
        folder: Path,
        seed: int,
    ) -> None:
        self._config, self._start, self._trained = config, start, trained
        self.images: dict[str, int] = {}
        self._asked, datasets = _sides(
            start, own, reference, new="novel" if not trained else "base"
        )
        self._data = {
            (side, part): data
            for side, splits in datasets.items()
            for part, data in self._parts(side, splits, folder, seed).items()
        }
        init_default_scope("mmdet")
        self._device = default_device()
        self.model = MODELS.build(config.model).to(self._device).eval()
        # What the start has not: embeddings that are learned start as the text's.
        self._added = {k: v.clone() for k, v in self.model.state_dict().items() if k == _LEARNED}
        self._built: dict[tuple[str, str, bool], tuple[Any, Any]] = {}
        self._embeddings: dict[Vocabulary, Tensor] = {}

    def _parts(
        self, side: str, splits: Mapping[str, Mapping[str, Any]], folder: Path, seed: int
    ) -> dict[str, Mapping[str, Any]]:
        """Data sets to choose by and to report on: two splits, or two parts of one."""
        found: dict[str, Mapping[str, Any]] = {}
        files = {part: Path(data["data_root"], data["ann_file"]) for part, data in splits.items()}
        contents = {part: read_json(file, "annotations") for part, file in files.items()}
        for part in PARTS:
            content = contents[part]
            if files["choose"] == files["report"]:
                chosen = divided([image["id"] for image in content["images"]], seed)[part]
                content = _of_images(content, set(chosen))
            file = folder / f"{side}_{part}.json"
            write_atomically(file, json.dumps(content))
            found[part] = {**splits[part], "ann_file": str(file.absolute())}
            self.images[f"{side} {part}"] = len(content["images"])
        return found

    def load(self, alpha: float) -> None:
        """Takes ``alpha`` x the fine-tuned weights + ``1 - alpha`` x the start's.

        Raises:
            CheckpointError: A file that does not fit.
        """
        file = self._start.weights
        tensors = _without_classes(file)
        if self._trained is not None:
            file = Path(self._trained)
            tensors = mixed_tensors(_without_classes(file), {**self._added, **tensors}, alpha)
        head = self.model.roi_head.bbox_head
        load_trained(self.model, {"state_dict": {**tensors, _CLASSES: head.all_embeddings}}, file)

    def answer(self, question: Question) -> dict[str, float]:
        """AP50 in percent, without those of groups that have no boxes."""
        asked = self._asked["both" if question.together else question.side]
        loader, metric = self._exam(question, asked)
        classes = self._embedded(asked)
        self.model.set_vocabulary(
            asked.names,
            classes[:-1],
            novel_classes=asked.indices("novel"),
            background=classes[-1],
        )
        own = [category.name for category in self._asked["own"].categories]
        self.model.roi_head.bbox_head.logit_offsets = dict.fromkeys(own, question.offset)
        with torch.inference_mode():
            for batch in track(loader, f"{question.side}, alpha {question.alpha:g}", "batch"):
                found = self.model.test_step(batch)
                metric.process(batch, [sample.to_dict() for sample in found])
        scores = metric.evaluate(len(loader.dataset))
        groups = _GROUPS if question.side == "kept" else ("all",)
        by_group = {f"{g}_ap50": scores.get(f"{metric.prefix}/{g}_ap50") for g in groups}
        return {
            name: value
            for name, value in by_group.items()
            if value is not None and not math.isnan(value)
        }

    def write(self, folder: Path) -> None:
        """Writes the loaded weights and the configuration that detects with them."""
        classes = self._embedded(self._asked["both"])
        self.model.set_vocabulary(self._asked["both"].names, classes[:-1], background=classes[-1])
        save_torch(folder / WEIGHTS, {"state_dict": self.model.state_dict()})
        write_plain_config(self._config, folder)

    def _exam(self, question: Question, asked: Vocabulary) -> tuple[Any, Any]:
        key = (question.side, question.part, question.together)
        if key not in self._built:
            test = self._config.test_dataloader
            dataset = {
                **self._data[question.side, question.part],
                "vocabulary": vocabulary_setting(asked),
                "test_mode": True,
                "pipeline": test.dataset.pipeline,
            }
            loader = Runner.build_dataloader({**test, "dataset": dataset}, seed=0)
            kind = dataset["type"].replace("Dataset", "Metric")
            metric = METRICS.build({"type": kind, "ann_file": dataset["ann_file"]})
            metric.dataset_meta = loader.dataset.metainfo
            self._built[key] = loader, metric
        return self._built[key]

    def _embedded(self, vocabulary: Vocabulary) -> Tensor:
        if vocabulary not in self._embeddings:
            self._embeddings[vocabulary] = resolve_class_embeddings(
                vocabulary,
                **self._config.model.roi_head.bbox_head.class_embeddings,
                background=BACKGROUND,
                width=self.model.roi_head.bbox_head.embed_dim,
                device=self._device,
            ).embeddings
        return self._embeddings[vocabulary]


def _sides(
    start: StartingDetector, own: DataDescription, reference: str | None, new: Split
) -> tuple[dict[str, Vocabulary], dict[str, dict[str, Mapping[str, Any]]]]:
    """What is asked by side, and both together; and the data set of each side and part."""
    asked = {"own": _with_splits(own.vocabulary, {}, new)}
    data = {"own": _described_parts(own)}
    if reference is None:
        asked["kept"] = start.vocabulary
        kept = {k: v for k, v in start.evaluation_data.items() if k not in _SET_HERE}
        data["kept"] = dict.fromkeys(PARTS, kept)
    else:
        described = read_description(reference)
        known = {reading_of(c): c.split or "base" for c in start.vocabulary.categories}
        asked["kept"] = _with_splits(described.vocabulary, known, "novel")
        data["kept"] = _described_parts(described)
    asked["both"] = joined_vocabulary(asked["own"], asked["kept"])
    return asked, data


_SET_HERE = ("vocabulary", "pipeline", "test_mode")


def _described_parts(description: DataDescription) -> dict[str, Mapping[str, Any]]:
    return {
        part: described_data(description, split) for part, split in splits_of(description).items()
    }


def _with_splits(vocabulary: Vocabulary, known: Mapping[str, Split], default: Split) -> Vocabulary:
    return replace(
        vocabulary,
        categories=tuple(
            replace(category, split=known.get(reading_of(category), default))
            for category in vocabulary.categories
        ),
    )


def _of_images(content: Mapping[str, Any], ids: set[int]) -> dict[str, Any]:
    return {
        **content,
        "images": [image for image in content["images"] if image["id"] in ids],
        "annotations": [a for a in content["annotations"] if a["image_id"] in ids],
    }


def _without_classes(file: Path) -> dict[str, Tensor]:
    """Weights without the classifier, which each question brings."""
    tensors = dict(state_dict_of(read_checkpoint(file, mmap=True), file))
    tensors.pop(_CLASSES, None)
    return tensors
