"""Asking a test for its predictions of single images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PREDICTIONS = "--save-predictions"


def keep_predictions(evaluator: Any, file: Path) -> None:
    """Tells the metric of boxes, of CLIPs or of detectors, to write what it was told of each image.

    Args:
        evaluator: mmengine's, or a mapping of such by task.
        file: See :mod:`fineclip.annotations.predictions`.

    Raises:
        ValueError: No metric keeps predictions, or more than one.
    """
    found: Iterable[Any] = evaluator.values() if isinstance(evaluator, Mapping) else [evaluator]
    metrics = [m for one in found for m in one.metrics if hasattr(m, "predictions_file")]
    if len(metrics) != 1:
        raise ValueError(
            f"{PREDICTIONS}: expected one task whose answers it keeps (box_classification, "
            f"mask_classification or a detector's test), got {len(metrics) or 'none'}"
        )
    metrics[0].predictions_file = file
