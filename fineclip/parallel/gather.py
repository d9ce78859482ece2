"""Gathering embeddings over processes, with gradient and with ragged row counts."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
import torch.distributed as dist
from torch import Tensor

from fineclip.embeddings import Embeddings


def world_size() -> int:
    """Number of processes, 1 outside ``torch.distributed``."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _GatherRagged(torch.autograd.Function):
    """All-gather along dim 0; the backward pass sums every rank's gradient of one's own rows."""

    @staticmethod
    def forward(ctx, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.start = sum(counts[: dist.get_rank()])
        ctx.length = len(rows)
        longest = max(counts)
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        gathered = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(gathered, padded)
        return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[ctx.start : ctx.start + ctx.length], None


def gather_counts(count: int, device: torch.device) -> list[int]:
    """The value of ``count`` on every rank, in rank order."""
    if world_size() == 1:
        return [count]
    mine = torch.tensor([count], device=device)
    counts = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(counts, mine)
    return torch.cat(counts).tolist()


def gather_ragged(rows: Tensor, counts: list[int] | None = None) -> Tensor:
    """Concatenates the rows of all ranks in rank order.

    Gradients flow back to the rank that owns a row, summed over the ranks that used it. When every
    rank computes the same loss on the gathered rows, DistributedDataParallel's mean over ranks
    therefore yields exactly the gradient of that loss.

    Args:
        rows: (n, ...) this rank's rows; n may differ between ranks and be 0.
        counts: n of every rank, where already known.

    Returns:
        (sum of n, ...).
    """
    if world_size() == 1:
        return rows
    if counts is None:
        counts = gather_counts(len(rows), rows.device)
    if max(counts) == 0:
        return rows
    return _GatherRagged.apply(rows, counts)


def gather_embeddings(embeddings: Embeddings) -> Embeddings:
    """The embeddings of the global batch; the identity in a single process.

    Args:
        embeddings: This rank's embeddings. Fields that are None stay None. What all ranks share
            (``vocabulary``, ``logit_scale``, ``logit_bias``) is returned as it is.

    Raises:
        ValueError: If ``region_image`` is given without ``image``, whose row counts its indices
            have to be shifted by.
    """
    if world_size() == 1:
        return embeddings
    counts: dict[str, list[int]] = {}
    gathered: dict[str, Tensor] = {}
    for field, group in _ROW_GROUPS.items():
        rows = getattr(embeddings, field)
        if rows is None:
            continue
        dim = _ROW_DIMS.get(field, 0)
        if group not in counts:
            counts[group] = gather_counts(rows.shape[dim], rows.device)
        if field == "region_image":
            if "image" not in counts:
                raise ValueError("region_image can only be gathered together with image")
            rows = rows + sum(counts["image"][: dist.get_rank()])
        rows = gather_ragged(rows.transpose(0, dim), counts[group])
        gathered[field] = rows.transpose(0, dim)
    return replace(embeddings, **gathered)


# Fields of one group have equal row counts; "image" comes before what is counted in images.
_ROW_GROUPS = {
    "image": "image",
    "text": "image",
    "student_prototypes": "image",
    "teacher_prototypes": "image",
    "patches": "image",
    "text_tokens": "image",
    "text_mask": "image",
    "region": "region",
    "crop": "region",
    "teacher_crop": "region",
    "region_text": "region",
    "region_label": "region",
    "region_image": "region",
}
_ROW_DIMS = {"student_prototypes": 1, "teacher_prototypes": 1}  # views come first
_SHARED = {"logit_scale", "logit_bias", "vocabulary"}
assert set(_ROW_GROUPS) == {field.name for field in fields(Embeddings)} - _SHARED
