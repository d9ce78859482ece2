"""Box classification: the mean per-class accuracy of region embeddings against class names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fineclip.annotations.predictions import PredictedRegion, Predictions, write_predictions
from fineclip.evaluation.image_metric import ImageMetric
from fineclip.evaluation.similarity import similarities
from fineclip.models.class_embeddings import TextEncoder, build_class_embeddings
from fineclip.registry import METRICS
from fineclip.text.templates import Template, get_templates
from fineclip.text.vocabulary import Vocabulary, as_vocabulary

TOP_K = (1, 5)
SMALL_AREA, LARGE_AREA = 32 * 32, 96 * 96
"""COCO's borders between small, medium and large, in square pixels of the original image."""

NO_CLASS = -1
"""Prediction of a region whose embedding is not finite: wrong for every class."""


def rank_classes(region_embeddings: Tensor, class_embeddings: Tensor, k: int = 5) -> np.ndarray:
    """The most similar classes of each region; of equally similar ones the lower index is first.

    Args:
        region_embeddings: (R, D) unit vectors.
        class_embeddings: (K, D) unit vectors.
        k: Classes wanted; with K < k there are K.

    Returns:
        (R, min(k, K)) int64 class indices, best first; rows of :data:`NO_CLASS` where the
        region's embedding is not finite.
    """
    scores = similarities(region_embeddings, class_embeddings)  # (R, K)
    # torch.topk leaves the order of ties open, a stable sort does not.
    order = scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
    finite = region_embeddings.detach().cpu().isfinite().all(dim=1, keepdim=True)
    return order.where(finite, torch.full_like(order, NO_CLASS)).numpy()


def mean_class_accuracy(correct: np.ndarray, labels: np.ndarray) -> float:
    """Share of correct regions per class, then the plain mean over the classes that occur.

    Args:
        correct: (R,) bool, R at least 1.
        labels: (R,) int64 class indices.

    Returns:
        Accuracy in percent.

    Raises:
        ValueError: There is no region, so there is no mean.
    """
    if not len(labels):
        raise ValueError("the accuracy of no region is not defined")
    _, index = np.unique(labels, return_inverse=True)
    hits = np.bincount(index, weights=np.asarray(correct, dtype=np.float64))
    return float(100.0 * (hits / np.bincount(index)).mean())


def box_classification(
    predictions: np.ndarray,
    labels: np.ndarray,
    areas: np.ndarray,
    class_groups: Mapping[str, np.ndarray] | None = None,
    region: str = "box",
) -> dict[str, float]:
    """Top-1 and top-5 mean accuracy, for all regions and for parts of them.

    The mean is over the classes that occur, in float64; the releases of CLIPSelf and FineCLIP
    round each class's share to half precision, which moves their figures by up to 0.05 points.
    A part (things, small boxes, ...) follows the same rule among its own regions, so
    the parts do not average to the whole. A part without regions is left out.

    Args:
        predictions: (R, k) int class indices, best first. With k < 5, which means fewer than five
            candidates, top 5 looks at all of them.
        labels: (R,) int class indices.
        areas: (R,) box areas in square pixels of the original image.
        class_groups: For each name, (K,) bool saying which classes belong to the group.
        region: What stands in the names of the results in place of ``box``.

    Returns:
        In percent ``box_top1``, ``box_top5``, ``<group>_box_top1`` and so on for each class
        group and for ``small``, ``medium`` and ``large``; counts ``box_regions`` and
        ``box_classes`` (those that occur). Without any region the counts alone, both 0.

    Raises:
        ValueError: Shapes that do not fit, or a label outside a class group.
    """
    predictions, labels, areas = np.asarray(predictions), np.asarray(labels), np.asarray(areas)
    if (
        predictions.ndim != 2
        or labels.shape != predictions.shape[:1]
        or areas.shape != labels.shape
    ):
        raise ValueError(
            "expected predictions (R, k), labels (R,) and areas (R,), got shapes "
            f"{predictions.shape}, {labels.shape} and {areas.shape}"
        )
    results: dict[str, float] = {}
    if len(labels):
        parts = {"": np.ones(len(labels), dtype=bool)}
        for name, members in (class_groups or {}).items():
            if labels.min() < 0 or labels.max() >= len(members):
                raise ValueError(
                    f"labels run from {labels.min()} to {labels.max()}, but class group {name!r} "
                    f"is about {len(members)} classes"
                )
            parts[f"{name}_"] = np.asarray(members, dtype=bool)[labels]
        parts["small_"] = areas < SMALL_AREA
        parts["medium_"] = (areas >= SMALL_AREA) & (areas < LARGE_AREA)
        parts["large_"] = areas >= LARGE_AREA
        matches = predictions == labels[:, None]  # (R, k)
        for part, inside in parts.items():
            for k in TOP_K if inside.any() else ():
                results[f"{part}{region}_top{k}"] = mean_class_accuracy(
                    matches[inside, :k].any(axis=1), labels[inside]
                )
    results[f"{region}_regions"] = len(labels)
    results[f"{region}_classes"] = len(np.unique(labels))
    return results


def class_groups_of(vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    """The groups of classes that a vocabulary tells apart.

    Args:
        vocabulary: K classes.

    Returns:
        (K,) bool for ``thing`` and ``stuff`` if every class says which it is and both occur,
        and for ``base`` and ``novel`` if any class has a split.
    """
    groups: dict[str, np.ndarray] = {}
    if set(vocabulary.isthing) == {True, False}:
        thing = np.array(vocabulary.isthing, dtype=bool)
        groups.update(thing=thing, stuff=~thing)
    if any(vocabulary.split):
        for split in ("base", "novel"):
            groups[split] = np.array([value == split for value in vocabulary.split])
    return groups


@METRICS.register_module()
class BoxClassificationMetric(ImageMetric):
    """Classifies region embeddings by the names of a vocabulary (see :func:`box_classification`).

    The evaluation loop calls :meth:`prepare` with the model before each run. Of every image only
    the best five classes per region are kept.

    Args:
        vocabulary: Candidate classes: name, path or :class:`Vocabulary`; labels are its indices.
            None: the ``vocabulary`` of the data set's ``metainfo``.
        templates: Prompts, see :func:`fineclip.text.templates.get_templates`.
        text_batch_size: Prompts encoded at a time.
        region: What stands in the names of the results in place of ``box``, such as ``mask``.
        collect_device: See :class:`ImageMetric`.
        prefix: See :class:`ImageMetric`.
        collect_dir: See :class:`ImageMetric`.

    Attributes:
        predictions_file: Where to keep what was said of each region; None: nowhere.

    Raises:
        ValueError: Unknown vocabulary or templates.
    """

    def __init__(
        self,
        vocabulary: str | Vocabulary | Sequence[str] | None = None,
        templates: str | Sequence[str] | Template = "vild",
        *,
        text_batch_size: int = 256,
        region: str = "box",
        collect_device: str = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        self._vocabulary = None if vocabulary is None else as_vocabulary(vocabulary)
        self.templates = get_templates(templates)
        self.text_batch_size = text_batch_size
        self.region = region
        self._class_embeddings: Tensor | None = None
        self.predictions_file: Path | None = None

    @property
    def vocabulary(self) -> Vocabulary:
        """The candidate classes.

        Raises:
            ValueError: None was given, neither to the metric nor by the data set.
        """
        vocabulary = self._vocabulary or (self.dataset_meta or {}).get("vocabulary")
        if vocabulary is None:
            raise ValueError(
                "BoxClassificationMetric has no vocabulary: pass one, or use a data set whose "
                "metainfo has one"
            )
        return vocabulary

    def prepare(self, clip: TextEncoder) -> None:
        """Embeds the class names with the model that is about to be evaluated.

        Args:
            clip: The model, in eval mode.
        """
        self._class_embeddings = build_class_embeddings(
            clip,
            self.vocabulary.prompt_names,
            self.templates,
            self.text_batch_size,
            cache=self.text_cache,
        ).cpu()

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keeps the best classes, labels and areas of a batch's regions.

        Args:
            data_batch: The batch, read for ``skipped`` alone.
            data_samples: For each image ``image_id``, ``region_embeddings`` (n, D), ``labels``
                (n,) and ``areas`` (n,).

        Raises:
            RuntimeError: :meth:`prepare` was not called.
        """
        if self._class_embeddings is None:
            raise RuntimeError("call BoxClassificationMetric.prepare(clip) before process")
        self.note_skipped(data_batch)
        nothing = self._class_embeddings[:0]
        for sample in data_samples:
            # A batch without any box has no region embeddings at all.
            regions = sample.get("region_embeddings", nothing)
            record = {
                "image_id": sample["image_id"],
                "predictions": rank_classes(regions, self._class_embeddings, max(TOP_K)),
                "labels": np.asarray(sample["labels"]),
                "areas": np.asarray(sample["areas"]),
            }
            if self.predictions_file is not None:
                record["file_name"] = sample["file_name"]
                record["boxes"] = np.asarray(sample["pixel_boxes"])
                record["scores"] = similarities(regions, self._class_embeddings).amax(dim=1).numpy()
            self.results.append(record)

    def compute(
        self, records: Sequence[Mapping[str, Any]], skipped: Mapping[str, str]
    ) -> dict[str, float]:
        """Computes the accuracies.

        Args:
            records: One per image, from :meth:`process`.
            skipped: Reason by file of what was left out.

        Returns:
            See :func:`box_classification`; also ``box_skipped``, the number of skipped files.
        """
        width = min(max(TOP_K), len(self.vocabulary))
        predictions = [r["predictions"] for r in records] or [np.zeros((0, width), np.int64)]
        results = box_classification(
            np.concatenate(predictions),
            np.concatenate([r["labels"] for r in records] or [np.zeros(0, np.int64)]),
            np.concatenate([r["areas"] for r in records] or [np.zeros(0)]),
            class_groups_of(self.vocabulary),
            self.region,
        )
        results[f"{self.region}_skipped"] = len(skipped)
        if self.predictions_file is not None:
            write_predictions(self.predictions_file, self._per_image(records))
        return results

    def _per_image(self, records: Sequence[Mapping[str, Any]]) -> Predictions:
        """What was said of each region; those without a finite embedding have no answer."""
        root = (self.dataset_meta or {}).get("image_root", "")
        images = {}
        for record in records:
            columns = zip(
                record["boxes"].tolist(),
                record["labels"].tolist(),
                record["predictions"][:, 0].tolist(),
                record["scores"].tolist(),
                strict=True,
            )
            images[record["file_name"]] = [
                PredictedRegion(
                    (x1, y1, x2 - x1, y2 - y1),
                    label,
                    None if said == NO_CLASS else said,
                    None if said == NO_CLASS else score,
                )
                for (x1, y1, x2, y2), label, said, score in columns
            ]
        return Predictions(root, tuple(self.vocabulary.names), images)
