"""Which detection answers which annotated box: for pictures and confusions, not for any metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fineclip.annotations.predictions import PredictedRegion

IOU = 0.5
EXTRAS = 10
"""Detections of nothing annotated that are kept of an image, those with the highest scores."""


def matched_regions(
    truth: Sequence[tuple[Sequence[float], int]],
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
) -> list[PredictedRegion]:
    """Gives every annotated box the best detection there, whatever category that names.

    Detections choose in the order of their scores, each the box it overlaps most, from an
    intersection over union of 0.5, that no other has taken.

    Args:
        truth: (box xywh in pixels, category) of each annotation.
        boxes: (n, 4) float, xyxy in pixels.
        labels: (n,) int categories.
        scores: (n,) float.

    Returns:
        The annotated boxes in their order, found or not, then up to :data:`EXTRAS` detections that
        match none.
    """
    given = np.array([box for box, _ in truth], dtype=np.float64).reshape(-1, 4)
    overlap = _overlaps(np.asarray(boxes, dtype=np.float64).reshape(-1, 4), given)
    answer: dict[int, int] = {}
    extras: list[int] = []
    for index in np.argsort(-np.asarray(scores), kind="stable").tolist():
        free = [place for place in range(len(given)) if place not in answer]
        best = max(free, key=lambda place: overlap[index, place], default=None)
        if best is not None and overlap[index, best] >= IOU:
            answer[best] = index
        else:
            extras.append(index)

    def region(box: Sequence[float], true: int | None, found: int | None) -> PredictedRegion:
        x, y, width, height = (float(value) for value in box)
        said = None if found is None else int(labels[found])
        score = None if found is None else float(scores[found])
        return PredictedRegion((x, y, width, height), true, said, score)

    regions = [region(box, label, answer.get(place)) for place, (box, label) in enumerate(truth)]
    for index in extras[:EXTRAS]:
        x1, y1, x2, y2 = boxes[index]
        regions.append(region((x1, y1, x2 - x1, y2 - y1), None, index))
    return regions


def _overlaps(found: np.ndarray, given: np.ndarray) -> np.ndarray:
    """(n, m) intersection over union of xyxy boxes (n, 4) and xywh boxes (m, 4)."""
    ends = given[:, :2] + given[:, 2:]
    low = np.maximum(found[:, None, :2], given[None, :, :2])
    high = np.minimum(found[:, None, 2:], ends[None])
    both = (high - low).clip(min=0).prod(axis=2)
    areas = (found[:, 2:] - found[:, :2]).prod(axis=1)[:, None] + given[:, 2:].prod(axis=1)[None]
    return both / np.maximum(areas - both, 1e-9)
