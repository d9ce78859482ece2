"""The batch of the evaluation data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fineclip.registry import FUNCTIONS

_OWNED = (("boxes", "region_image"), ("masks", "region_image"), ("texts", "text_image"))

Skipped = list[tuple[str, str]]
"""(file, reason) of everything an evaluation left out."""


@FUNCTIONS.register_module()
def collate_evaluation(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Packs samples of an evaluation data set into a batch.

    Args:
        samples: Each has ``skipped``, a list of (file, reason), and, unless the image could not
            be used, ``image`` (3, S, S) uint8, or (v, 3, S, S) for v views of it, and
            ``data_sample`` (a dict); optionally ``boxes`` (n, 4) float32 xyxy normalised to
            [0, 1] of the input or ``masks`` (n, h, w) float32, and ``texts`` (m, T) int64.

    Returns:
        ``images`` (B, 3, S, S) uint8, where B counts the usable images (or their views) and may
        be 0; ``data_samples``, a list of a dict per image; ``skipped``, a list of (file, reason);
        and, unless they would have no rows, ``boxes`` (R, 4) or ``masks`` (R, h, w) with
        ``region_image`` (R,) int64 and ``texts`` (M, T) with ``text_image`` (M,) int64, where the
        index says which of the images a row belongs to.
    """
    usable = [sample for sample in samples if "image" in sample]
    batch: dict[str, Any] = {
        "images": torch.cat([_with_views(sample["image"]) for sample in usable])
        if usable
        else torch.zeros(0, 3, 0, 0, dtype=torch.uint8),
        "data_samples": [dict(sample["data_sample"]) for sample in usable],
        "skipped": [entry for sample in samples for entry in sample["skipped"]],
    }
    for key, index_key in _OWNED:
        parts = [sample[key] for sample in usable if key in sample]
        if any(len(part) for part in parts):
            batch[key] = torch.cat(parts)
            batch[index_key] = _owner(parts)
    return batch


def _with_views(image: Tensor) -> Tensor:
    return image if image.ndim == 4 else image[None]


def _owner(parts: Sequence[Tensor]) -> Tensor:
    counts = torch.tensor([len(part) for part in parts])
    return torch.repeat_interleave(torch.arange(len(parts)), counts)
