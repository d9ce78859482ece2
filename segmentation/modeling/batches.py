"""Inputs of many images through the network, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

Job = TypeVar("Job")


def run_in_batches(
    jobs: Iterable[tuple[Job, Tensor]], network: Callable[[Tensor], Tensor], size: int
) -> Iterator[tuple[Job, list[Tensor]]]:
    """Fills batches across the borders of jobs and hands their results back job by job.

    A job is yielded as soon as its last input has run, so few results are held at a time.

    Args:
        jobs: Jobs, each with its inputs (n, ...); the shape after n is the same for all.
        network: Maps a batch of inputs to as many results.
        size: Inputs in a batch.

    Yields:
        Each job with its n results, in order.
    """
    waiting: list[Tensor] = []
    ready: list[Tensor] = []
    begun: list[tuple[Job, int]] = []

    def run_one_batch() -> None:
        ready.extend(network(torch.stack(waiting[:size])))
        del waiting[:size]

    def finished() -> Iterator[tuple[Job, list[Tensor]]]:
        while begun and len(ready) >= begun[0][1]:
            job, number = begun.pop(0)
            results = ready[:number]
            del ready[:number]
            yield job, results

    for job, inputs in jobs:
        waiting.extend(inputs)
        begun.append((job, len(inputs)))
        while len(waiting) >= size:
            run_one_batch()
        yield from finished()
    while waiting:
        run_one_batch()
        yield from finished()
