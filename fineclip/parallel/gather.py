"""Gathering embeddings over processes, with gradient and with ragged row counts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from fineclip.embeddings import FIELDS, Embeddings, Share, SharedEmbeddings


def world_size() -> int:
    """Number of processes, 1 outside ``torch.distributed``."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _GatherRagged(torch.autograd.Function):
    """All-gather along dim 0; the backward pass sums every rank's gradient of one's own rows.

    The collectives that move one tensor in one piece want equally many rows of every rank. Rows
    are padded to the longest rank's number just for the transfer, both ways: no caller sees them.
    """

    @staticmethod
    def forward(ctx, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        longest = max(counts)
        gathered = rows.new_empty(longest * len(counts), *rows.shape[1:])
        dist.all_gather_single(gathered, _padded(rows, longest))
        if min(counts) == longest:  # the usual case, images: there is nothing to cut out
            return gathered
        of_ranks = zip(gathered.split(longest), counts, strict=True)
        return torch.cat([padded[:count] for padded, count in of_ranks])

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        # Every rank has a gradient for all rows and wants the sum for its own: a reduce-scatter.
        # An all-reduce would move, and hold, the sums for the other ranks' rows as well.
        longest = max(ctx.counts)
        if min(ctx.counts) < longest:
            of_ranks = gradient.split(ctx.counts)
            gradient = torch.cat([_padded(part, longest) for part in of_ranks])
        own = gradient.new_empty(longest, *gradient.shape[1:])
        dist.reduce_scatter_single(own, gradient.contiguous())
        return own[: ctx.counts[dist.get_rank()]], None


def _padded(rows: Tensor, length: int) -> Tensor:
    """Rows of zeros up to a length; whoever receives them cuts them off again."""
    if len(rows) == length:
        return rows.contiguous()
    padded = rows.new_zeros(length, *rows.shape[1:])
    padded[: len(rows)] = rows
    return padded


def gather_counts(counts: Sequence[int], device: torch.device) -> list[list[int]]:
    """Some numbers of every rank.

    Args:
        counts: This rank's numbers, equally many on all ranks.
        device: One that the process group talks over.

    Returns:
        For each number its values in rank order.
    """
    if world_size() == 1:
        return [[count] for count in counts]
    mine = torch.tensor(list(counts), device=device)
    gathered = mine.new_empty(world_size() * len(mine))
    dist.all_gather_single(gathered, mine)
    return gathered.view(world_size(), -1).T.tolist()


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
        (counts,) = gather_counts([len(rows)], rows.device)
    if max(counts) == 0:
        return rows
    return _GatherRagged.apply(rows, counts)


def gather_embeddings(
    embeddings: Embeddings, *, local_loss: bool = False, compared: Collection[str] | None = None
) -> Embeddings:
    """The embeddings of the global batch; the identity in a single process.

    Args:
        embeddings: This rank's embeddings. Fields that are None stay None. What all ranks share
            (:attr:`FieldSpec.rows <fineclip.embeddings.FieldSpec>` is None) is returned as it is.
        local_loss: Name this rank's ``share``, so that objectives return their share of the loss
            (see :class:`fineclip.objectives.Objective`); :func:`sum_shares` makes losses of the
            shares. Otherwise every rank evaluates the whole loss.
        compared: Fields that are gathered with ``local_loss``, where not all are wanted; see
            :func:`fineclip.objectives.compared_fields`. The others are None in the result, but
            for its ``own``.

    Raises:
        ValueError: If ``region_image`` is to be gathered without ``image`` given, whose row counts
            its indices have to be shifted by; or if ``compared`` is given without ``local_loss``.
    """
    if compared is not None and not local_loss:
        raise ValueError("compared: every field is gathered unless local_loss=True")
    if world_size() == 1:
        return embeddings
    # What there is to gather: fields with rows of their own; the shared ones stay as they are.
    given = {
        name: rows
        for name, spec in FIELDS.items()
        if spec.rows is not None and (rows := getattr(embeddings, name)) is not None
    }
    if not given:
        return embeddings
    # Numbers of images and regions on every rank, told once for all fields.
    lengths = {FIELDS[name].rows: rows.shape[FIELDS[name].row_dim] for name, rows in given.items()}
    device = next(iter(given.values())).device
    counts = dict(zip(lengths, gather_counts(list(lengths.values()), device), strict=True))
    first = {group: sum(counts.get(group, ())[: dist.get_rank()]) for group in ("image", "region")}
    gathered: dict[str, Any] = {}
    for name, rows in given.items():
        if compared is not None and name not in compared:
            gathered[name] = None
            continue
        if name == "region_image":
            if "image" not in counts:
                raise ValueError("region_image can only be gathered together with image")
            rows = rows + first["image"]
        spec = FIELDS[name]
        rows = gather_ragged(rows.transpose(0, spec.row_dim), counts[spec.rows])
        gathered[name] = rows.transpose(0, spec.row_dim)
    if not local_loss:
        return replace(embeddings, **gathered)
    share = Share(
        own=embeddings,
        first_image=first["image"],
        first_region=first["region"],
        num_regions=sum(counts.get("region", ())),
        num_processes=world_size(),
    )
    return SharedEmbeddings(**{**vars(embeddings), **gathered}, share=share)


class _SumShares(torch.autograd.Function):
    """All-reduce whose backward pass multiplies by the number of ranks instead of summing."""

    @staticmethod
    def forward(ctx, shares: Tensor) -> Tensor:
        total = shares.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * world_size()


def sum_shares(losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turns every rank's share of some losses into the losses of the global batch.

    The value is the sum over ranks, the same on all of them. The gradient is that of the rank's
    own share times the number of ranks, so that the mean over ranks that DistributedDataParallel
    or FSDP take is exactly the gradient of the loss.

    Args:
        losses: Scalars of one dtype, with the same names in the same order on all ranks.

    Returns:
        The same names; in a single process the very same tensors.
    """
    if world_size() == 1 or not losses:
        return dict(losses)
    return dict(zip(losses, _SumShares.apply(torch.stack(list(losses.values()))), strict=True))


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean over processes of a tensor that all have in the same shape, without gradient.

    A sum of this process's terms over the mean of all processes' counts is what
    DistributedDataParallel wants: the mean of these shares over processes is the mean over all
    terms, and its gradient the mean of their gradients.

    Args:
        values: Numbers of this process, of any shape and dtype, on a device that the process group
            talks over.

    Returns:
        The same shape, floating point; in a single process the very same tensor.
    """
    if world_size() == 1:
        return values
    return sum_over_processes(values) / world_size()


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum over processes, otherwise as :func:`mean_over_processes`."""
    if world_size() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def share_of_rows(rows: int, device: torch.device) -> Tensor | float:
    """Factor that turns a mean over this process's rows into its share of the mean over all rows.

    Args:
        rows: Rows of this process; may be 0.
        device: One that the process group talks over.

    Returns:
        The number of rows over its mean over processes; 1 in a single process.
    """
    if world_size() == 1:
        return 1.0
    number = torch.tensor(float(rows), device=device)
    return number / mean_over_processes(number).clamp(min=1 / world_size())
