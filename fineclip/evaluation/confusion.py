"""Confusion matrices and what follows from them.

K classes; rows are true classes, columns predicted ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def count_confusion(
    labels: np.ndarray, predictions: np.ndarray, num_classes: int, ignore_label: int
) -> np.ndarray:
    """Counts pixels by true and predicted class; ignored pixels count nowhere.

    Args:
        labels: True classes 0 to K - 1, or ``ignore_label``; integers of any shape.
        predictions: Predicted classes 0 to K - 1, of that shape.
        num_classes: K.
        ignore_label: See ``labels``.

    Returns:
        (K, K) int64.

    Raises:
        ValueError: Shapes differ, or a value is no class.
    """
    if labels.shape != predictions.shape:
        raise ValueError(f"labels are {labels.shape}, predictions {predictions.shape}")
    counted = labels != ignore_label
    true, predicted = labels[counted], predictions[counted]
    for what, values in (("labels", true), ("predictions", predicted)):
        if values.size and (values.min() < 0 or values.max() >= num_classes):
            raise ValueError(
                f"{what} reach from {values.min()} to {values.max()}, the {num_classes} classes "
                f"from 0 to {num_classes - 1}"
            )
    flat = true.astype(np.int64) * num_classes + predicted
    counts = np.bincount(flat, minlength=num_classes * num_classes)
    return counts.reshape(num_classes, num_classes)


def most_confused(confusion: np.ndarray, pairs: int = 20) -> list[tuple[int, int, float]]:
    """The pairs of classes that are taken for each other over the most pixels.

    Args:
        confusion: (K, K) of :func:`count_confusion`.
        pairs: At most so many.

    Returns:
        (true class, predicted class, percent of the true one's pixels), the most pixels first.
    """
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    found = [
        divmod(int(i), len(wrong)) for i in np.argsort(-wrong, axis=None, kind="stable")[:pairs]
    ]
    return [
        (true, said, float(100 * wrong[true, said] / confusion[true].sum()))
        for true, said in found
        if wrong[true, said]
    ]


@dataclass(frozen=True)
class SegmentationScores:
    """What a confusion matrix says; fractions, NaN where there is nothing to average.

    Classes that no pixel is labelled with have no score and enter no mean, as in detectron2; what
    was wrongly predicted as one of them counts against the class it was taken from.

    Attributes:
        iou: (K,) float64 intersection over union.
        accuracy: (K,) float64 share of a class's pixels that were found.
        pixels: (K,) int64 pixels labelled with each class.
    """

    iou: np.ndarray
    accuracy: np.ndarray
    pixels: np.ndarray

    @classmethod
    def from_confusion(cls, confusion: np.ndarray) -> SegmentationScores:
        """Computes the scores of a (K, K) matrix of :func:`count_confusion`."""
        hits = confusion.diagonal().astype(np.float64)
        pixels = confusion.sum(axis=1)
        union = pixels + confusion.sum(axis=0) - hits
        present = pixels > 0
        nothing = np.full(len(confusion), np.nan)
        return cls(
            iou=np.divide(hits, union, out=nothing.copy(), where=present),
            accuracy=np.divide(hits, pixels, out=nothing.copy(), where=present),
            pixels=pixels,
        )

    def mean_iou(self, classes: Sequence[bool] | None = None) -> float:
        """Mean over all classes that occur, or over those of them marked in ``classes`` (K,)."""
        return _mean(self.iou, classes)

    @property
    def mean_iou_of_all(self) -> float:
        """Mean over all classes, of which those without a labelled pixel count as 0."""
        return float(np.nansum(self.iou) / len(self.iou)) if self.pixels.any() else float("nan")

    def mean_accuracy(self, classes: Sequence[bool] | None = None) -> float:
        """Mean over all classes that occur, or over those of them marked in ``classes`` (K,)."""
        return _mean(self.accuracy, classes)

    @property
    def frequency_weighted_iou(self) -> float:
        """Mean of the intersections over union, each weighted with its class's pixels."""
        return self._weighted(self.iou)

    @property
    def pixel_accuracy(self) -> float:
        """Share of all pixels that were found."""
        return self._weighted(self.accuracy)

    def _weighted(self, values: np.ndarray) -> float:
        total = self.pixels.sum()
        present = self.pixels > 0
        return float((values * self.pixels)[present].sum() / total) if total else float("nan")


def _mean(values: np.ndarray, classes: Sequence[bool] | None) -> float:
    if classes is not None:
        values = values[np.asarray(classes, dtype=bool)]
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")
