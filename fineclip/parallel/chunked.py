"""Encoding a batch chunk by chunk, so that memory is set by the chunk and not by the batch.

Contrastive losses need the embeddings of the whole batch, not its activations. Every chunk is
encoded once without keeping them; when the gradient with respect to its embeddings is there, it is
encoded again, differentiated and forgotten. Losses and gradients are those of the plain step up to
the order in which float sums are taken; the price is one more forward pass (GradCache: Gao et al.
2021, sec. 3; here as autograd sees it, so the gradient of a parameter is complete before anybody
synchronises it, and mixed precision, accumulation and data parallelism need to know nothing).
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class Chunks:
    """How the rows of one encoder are worked on.

    Attributes:
        size: Rows of a chunk, which is encoded again in the backward pass; None: all rows are
            encoded at once, and their activations kept.
        kept: So many of the first rows are encoded at once and kept; chunks are of the rest.
    """

    size: int | None = None
    kept: int = 0

    def bounds(self, count: int) -> list[tuple[int, int, bool]]:
        """Start, end and whether they are recomputed, of the parts of ``count`` rows."""
        if self.size is None or (self.size >= count and not self.kept):
            return [(0, count, False)]
        kept = min(self.kept, count)
        starts = [*range(kept, count, self.size), count]
        parts = [(start, end, True) for start, end in itertools.pairwise(starts)]
        return [(0, kept, False), *parts] if kept else parts


WHOLE = Chunks()
"""All rows at once."""

_FOR_CHUNKS = 0.25
"""Share of the budget for the chunk that is being recomputed: small ones are slow."""


@dataclass(frozen=True)
class EncodeJob:
    """One encoder and the rows of a batch it has to encode.

    Attributes:
        name: What is encoded ("images", "crops", "texts" or "views").
        fields: What the outputs are called.
        function: Maps tensors that stand for some rows to a tuple of outputs; rows do not depend
            on each other.
        count: Number of rows.
        inputs: Maps (start, end) to the tensors of these rows. Where rows differ in work, the
            first ones have the most.
        trains: Whether gradients flow; without, no graph is built and nothing is recomputed.
        finish: Makes the fields of the outputs of all rows; None: they are the outputs.
    """

    name: str
    fields: tuple[str, ...]
    function: Callable[..., tuple[Tensor, ...]]
    count: int
    inputs: Callable[[int, int], tuple[Tensor, ...]]
    trains: bool = True
    finish: Callable[[Sequence[Tensor]], Sequence[Tensor]] | None = None

    def run(self, chunks: Chunks = WHOLE) -> dict[str, Tensor]:
        """The fields by name.

        Args:
            chunks: Which rows at a time.
        """
        outputs: Sequence[Tensor]
        with torch.set_grad_enabled(self.trains and torch.is_grad_enabled()):
            found = [
                (self._run_chunk if again else self.function)(*self.inputs(start, end))
                for start, end, again in chunks.bounds(self.count)
            ]
            outputs = found[0]
            if len(found) > 1:
                outputs = [torch.cat(parts) for parts in zip(*found, strict=True)]
            if self.finish is not None:
                outputs = self.finish(outputs)
        return dict(zip(self.fields, outputs, strict=True))

    def _run_chunk(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        if torch.is_grad_enabled():
            # Keeps nothing but the inputs; restores random state and autocast when it recomputes.
            return checkpoint(self.function, *inputs, use_reentrant=False)
        return self.function(*inputs)


def slices(*groups: Tensor) -> Callable[[int, int], tuple[Tensor, ...]]:
    """The ``inputs`` of a job whose rows are those of some tensors, one after another.

    All rows are all tensors; a part of them is of those tensors alone that have some.
    """
    starts = [0, *itertools.accumulate(map(len, groups))]

    def inputs(start: int, end: int) -> tuple[Tensor, ...]:
        if (start, end) == (0, starts[-1]):
            return groups
        parts = [
            group[max(start - first, 0) : max(end - first, 0)]
            for group, first in zip(groups, starts, strict=False)
        ]
        return tuple(part for part in parts if len(part)) or tuple(parts[:1])

    return inputs


@dataclass
class ChunkPlanner:
    """Decides how many rows each encoder takes at a time.

    Args:
        sizes: Rows at a time by the name of the job; None or absent: all. "auto": as much is kept
            as the memory budget allows, the smallest jobs first, and the rows that do not fit are
            recomputed. What builds no graph is left whole.
        budget: Bytes of activations that "auto" keeps for the backward pass at a time; None: half
            of the memory that is free on the device when it is first asked.

    Raises:
        ValueError: For sizes or a budget below 1.
    """

    sizes: Mapping[str, int | None] | Literal["auto"] | None = None
    budget: float | None = None
    _measured: dict[tuple, tuple[int, int]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if isinstance(self.sizes, Mapping):
            for name, size in self.sizes.items():
                if size is not None and (not isinstance(size, int) or size < 1):
                    raise ValueError(
                        f"chunk_sizes: {name} must be a number of rows of at least 1 or None, "
                        f"got {size!r}"
                    )
        elif self.sizes not in (None, "auto"):
            raise ValueError(
                'chunk_sizes must be None, "auto" or a dict such as dict(images=8, crops=64, '
                f"texts=256), got {self.sizes!r}"
            )
        if self.budget is not None and self.budget < 1:
            raise ValueError(f"memory_budget must be a number of bytes, got {self.budget!r}")

    def plan(self, jobs: Sequence[EncodeJob]) -> list[Chunks]:
        """How each job of a step is worked on."""
        if self.sizes != "auto":
            return [Chunks((self.sizes or {}).get(job.name)) for job in jobs]
        plan = [WHOLE] * len(jobs)
        if not torch.is_grad_enabled():
            return plan
        # What is kept grows linearly with the rows, so that two measurements tell it for all.
        costs = {i: self._cost(job) for i, job in enumerate(jobs) if job.trains and job.count}
        whole = {i: chunk + row * jobs[i].count for i, (chunk, row) in costs.items()}
        if self.budget is None:
            self.budget = free_memory(jobs[0].inputs(0, 1)[0].device) / 2
        if sum(whole.values()) <= self.budget:
            return plan
        # Activations of kept rows are alive all at once; of chunks, only those of the one being
        # recomputed. So the budget is: all kept rows, and the largest chunk. The smallest jobs
        # are kept whole; the first that does not fit keeps some rows, larger ones none.
        for_chunks = self.budget * _FOR_CHUNKS
        left = self.budget - for_chunks
        order = sorted(whole, key=whole.__getitem__)
        for i in order:
            if left >= whole[i]:
                left -= whole[i]
                continue
            count, (per_chunk, per_row) = jobs[i].count, costs[i]
            size = _rows_in(for_chunks, costs[i])
            if i == order[-1] and all(chunks is WHOLE for chunks in plan):
                # No other job needs chunks: they need not hold more rows than do not fit.
                left += for_chunks - per_chunk
                size = min(size, count - _rows_in(left, costs[i]))
                left -= size * per_row
            plan[i] = Chunks(max(size, 1), min(_rows_in(left, costs[i]), count - 1))
            left = 0.0
        return plan

    def _cost(self, job: EncodeJob) -> tuple[int, int]:
        """Bytes kept for the backward pass: by any chunk, and by each of its rows.

        Measured on one and on two rows, once for all steps of this shape and precision.
        """
        row = job.inputs(0, 1)
        device = row[0].device.type
        autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        key = (job.name, job.fields, row[0].shape, autocast)
        if key not in self._measured:
            one = saved_bytes(job.function, *row)
            two = one if job.count == 1 else saved_bytes(job.function, *job.inputs(0, 2))
            self._measured[key] = (max(2 * one - two, 0), max(two - one, 0))
        return self._measured[key]


def _rows_in(memory: float, cost: tuple[int, int]) -> int:
    """Rows of a job, with its cost by chunk and by row, that some bytes are enough for."""
    per_chunk, per_row = cost
    return max(int((memory - per_chunk) // max(per_row, 1)), 0)


def saved_bytes(function: Callable[..., object], *inputs: Tensor) -> int:
    """Bytes that autograd keeps for the backward pass of a call, parameters and inputs aside."""
    known = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    kept: dict[int, int] = {}
    alive = []  # keeps addresses from being given to a second tensor

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        base = tensor if tensor._base is None else tensor._base
        if storage.data_ptr() not in known and not isinstance(base, nn.Parameter):
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(storage)
        return tensor

    devices = [inputs[0].device] if inputs[0].device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        function(*inputs)
    return sum(kept.values())


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; of the machine's memory if it is no GPU."""
    if device.type == "cuda":
        # What the caching allocator holds without using it is free as well.
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    memory = Path("/proc/meminfo")
    if memory.is_file():
        found = re.search(r"MemAvailable:\s+(\d+) kB", memory.read_text())
        if found:
            return int(found[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
