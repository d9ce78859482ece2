"""Which boxes of an image are used."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from torchvision.ops import nms

from fineclip.annotation.interfaces import Proposals
from fineclip.annotation.settings import AnnotationSettings


def clean_boxes(
    proposals: Proposals, width: int, height: int, settings: AnnotationSettings
) -> tuple[Proposals, Counter[str]]:
    """Cuts boxes to their image, and leaves out those that are of no use.

    Args:
        proposals: Boxes of one image.
        width: Of the image in pixels.
        height: Likewise.
        settings: Limits.

    Returns:
        The boxes that are left, the highest scores first, and how many others there were by reason.
    """
    dropped: Counter[str] = Counter()
    boxes = np.array(proposals.boxes, np.float32).reshape(-1, 4)
    scores = np.array(proposals.scores, np.float32).reshape(-1)
    finite: np.ndarray = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    boxes = np.where(finite[:, None], boxes, 0)
    boxes = np.clip(boxes, 0, np.array([width, height, width, height], np.float32))
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = sides.prod(axis=1)
    left = np.arange(len(boxes))
    limits: tuple[tuple[str, np.ndarray], ...] = (
        ("not finite", finite),
        ("empty or outside its image", np.asarray((sides > 0).all(axis=1))),
        ("score too low", scores >= settings.min_score),
        ("side too short", np.asarray((sides >= settings.min_box_side).all(axis=1))),
        ("area too small", areas >= settings.min_box_area),
        ("area too large", areas <= settings.max_box_area),
    )
    for reason, good in limits:
        dropped[reason] += int((~good[left]).sum())
        left = left[good[left]]
    kept = left[
        nms(
            torch.from_numpy(boxes[left]), torch.from_numpy(scores[left]), settings.overlap()
        ).numpy()
    ]
    dropped["overlaps a better one"] += len(left) - len(kept)
    dropped["more than an image may have"] += max(0, len(kept) - settings.max_boxes)
    kept = kept[: settings.max_boxes]
    return Proposals(
        boxes[kept],
        scores[kept],
        tuple(proposals.names[i] for i in kept),
        tuple(proposals.captions[i] for i in kept),
    ), +dropped
