"""Non-maximum suppression by class that stops where the result is full."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmcv.ops import nms
from mmdet.models.layers import multiclass_nms
from torch import Tensor

# Candidates looked at first, as a multiple of the boxes wanted; each further look is at as many
# times more. Most overlap, so few of the first would be too few.
_GROWTH = 8


def best_boxes(
    boxes: Tensor, scores: Tensor, *, threshold: float, nms_cfg: Mapping[str, Any], number: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best boxes of all classes after NMS in each: mmdet's ``multiclass_nms``.

    A box is suppressed by better ones alone. So the best ``number`` follow from the best
    candidates, as soon as these leave so many; of a thousand proposals times a thousand classes
    above a low threshold, nearly all are never looked at.

    Args:
        boxes: (R, 4) xyxy in pixels, not negative, or (R, 4 K) with a box per class.
        scores: (R, K + 1), background last, which is never detected.
        threshold: Candidates are above it.
        nms_cfg: mmcv's configuration. Anything but plain NMS by class is left to mmdet.
        number: Boxes to keep; 0 or less: all.

    Returns:
        (n, 4) boxes, (n,) scores and (n,) int64 classes, best first; equal scores in any order.
    """
    settings = dict(nms_cfg)
    overlap = settings.pop("iou_threshold", None)
    if overlap is None or settings not in ({}, {"type": "nms"}) or number <= 0:
        found, labels = multiclass_nms(boxes, scores, threshold, nms_cfg, number)
        return found[:, :4], found[:, 4], labels
    classes = scores.shape[1] - 1
    places = (scores[:, :-1].reshape(-1) > threshold).nonzero().squeeze(1)
    values = scores[:, :-1].reshape(-1)[places]
    by_class = boxes.unflatten(1, (-1, 4))
    shift = _largest(by_class, places, classes) + 1
    looked_at, kept = 0, 0
    while kept < number and looked_at < len(places):
        looked_at = min(len(places), max(looked_at, number) * _GROWTH)
        best, order = values.topk(looked_at)
        rows, labels = places[order] // classes, places[order] % classes
        chosen = by_class[rows, labels if by_class.shape[1] > 1 else 0]
        # Boxes of different classes are moved apart, so that one NMS does for all (as in mmcv).
        survivors = nms(chosen + (labels.to(chosen) * shift)[:, None], best, overlap)[1]
        kept = len(survivors)
    if not looked_at:
        return boxes.new_zeros(0, 4), scores.new_zeros(0), places
    survivors = survivors[:number]
    return chosen[survivors], best[survivors], labels[survivors]


def _largest(by_class: Tensor, places: Tensor, classes: int) -> Tensor:
    """() largest coordinate of all candidates, which mmcv moves boxes apart by."""
    if by_class.shape[1] == 1:
        is_candidate = torch.zeros(len(by_class), dtype=torch.bool, device=places.device)
        is_candidate[places // classes] = True
        candidates = by_class[is_candidate]
    else:
        candidates = by_class.flatten(0, 1)[places]
    return candidates.amax() if len(candidates) else candidates.new_zeros(())
