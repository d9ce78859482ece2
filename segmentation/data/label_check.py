"""Whether the label maps of a data set hold anything to learn, or to score."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fineclip.datasets.label_maps import read_label_map

_LIMIT = 256  # label maps that are looked at
_SHOWN = 5

_log = logging.getLogger(__name__)


def check_labels(
    name: str,
    records: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    ignore_label: int,
    *,
    train: bool,
) -> None:
    """Reads label maps, some hundreds at most, until there is enough in them.

    Of data sets that are read as a whole, classes that never occur are mentioned in the log before
    a training.

    Args:
        name: What messages call the data set.
        records: Its images: ``sem_seg_file_name`` and perhaps ``label_map``.
        class_names: K names.
        ignore_label: Of pixels without a class.
        train: Whether it will be trained on, for which one class of several is not enough.

    Raises:
        FileNotFoundError: A label map does not exist.
        ValueError: No pixel has a class, or in training all have the same one; or a label map
            cannot be used, or a record names none.
    """
    step = -(-len(records) // _LIMIT)
    sample = records[:: max(step, 1)]
    whole = len(sample) == len(records)
    # All of a small set are read for its missing classes.
    enough = len(class_names) if train and whole else min(2 if train else 1, len(class_names))
    found: set[int] = set()
    for record in sample:
        if "sem_seg_file_name" not in record:
            raise ValueError(
                f"data set {name}: {record.get('file_name')}: no 'sem_seg_file_name' in its record"
            )
        labels = read_label_map(
            record["sem_seg_file_name"],
            num_classes=len(class_names),
            ignore_label=ignore_label,
            label_map=record.get("label_map"),
        )
        found.update(np.unique(labels[labels != ignore_label]).tolist())
        if len(found) >= enough:
            return
    looked = f"{len(sample)} label maps" + ("" if whole else f" (of {len(records)})")
    example = sample[0]["sem_seg_file_name"] if sample else "none"
    advice = (
        f"{ignore_label} marks ignored pixels: a mask of 0 and {ignore_label} must become one of "
        "0 and 1"
    )
    if not found:
        raise ValueError(
            f"data set {name}: no pixel of its {looked} has a class, such as in {example}; {advice}"
        )
    if train and len(found) == 1 and len(class_names) > 1:
        (only,) = found
        problem = (
            f"data set {name}: all labelled pixels of its {looked} are of one class, "
            f"{class_names[only]!r}, such as in {example}; {advice}"
        )
        if whole:
            raise ValueError(problem)
        _log.warning(problem)
    elif train and whole:
        missing = [class_names[k] for k in range(len(class_names)) if k not in found]
        shown = ", ".join(map(repr, missing[:_SHOWN])) + (", ..." if missing[_SHOWN:] else "")
        _log.warning(
            "data set %s: %d of its %d classes never occur: %s",
            name,
            len(missing),
            len(class_names),
            shown,
        )
