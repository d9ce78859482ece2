"""Results as text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_IOU, _ACCURACY = "IoU-", "ACC-"


def per_class_table(results: Mapping[str, Any]) -> str:
    """Lays out the scores of every class.

    Args:
        results: What the evaluator returned, with or without its key ``sem_seg``; percent.

    Returns:
        Lines of class, IoU and accuracy, in the order of classes; "-" for a class that no pixel is
        labelled with.
    """
    scores = results.get("sem_seg", results)
    names = [key.removeprefix(_IOU) for key in scores if key.startswith(_IOU)]
    rows = [(n, _cell(scores[_IOU + n]), _cell(scores.get(_ACCURACY + n, math.nan))) for n in names]
    width = max([len("class"), *(len(name) for name in names)])
    return "\n".join(
        f"{name:<{width}}  {iou:>6}  {accuracy:>6}"
        for name, iou, accuracy in [("class", "IoU", "Acc"), *rows]
    )


def _cell(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"
