"""Orders of an epoch that a resumed run can enter anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized

import torch
from mmengine.dataset import DefaultSampler
from torch import Tensor

from fineclip.checks import integer_from
from fineclip.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class EpochSampler(DefaultSampler):
    """mmengine's default sampler, with the epoch in every key: yields (epoch, index).

    Random draws of a sample can then be a function of seed, epoch and index, whatever worker
    makes them and wherever training was resumed.
    """

    _skipped = 0

    def skip(self, num_samples: int) -> None:
        """Leaves out the first samples of this process when it is iterated next, and only then.

        Nothing is loaded for it: workers are handed the later keys from the start.

        Args:
            num_samples: How many samples this process has seen of the epoch.
        """
        self._skipped = num_samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        skipped, self._skipped = self._skipped, 0
        return iter([(self.epoch, index) for index in self._indices()][skipped:])

    def _indices(self) -> Iterator[int]:
        """The indices of this process, in the order of the epoch."""
        return super().__iter__()


@DATA_SAMPLERS.register_module()
class ShardSampler(EpochSampler):
    """Shuffles so that shards are read a few at a time: yields (epoch, index).

    Each epoch, the shards are shuffled and taken in groups; the samples of a group are shuffled
    together. Reading then stays within a few files, which the system can keep in memory or fetch
    ahead, while a batch still mixes ``group`` shards. All processes read the same group.

    Args:
        dataset: A data set with ``groups``, (N,) int64 shard of each sample, such as
            :class:`fineclip.datasets.RegionTextDataset` over shards.
        group: Shards that are mixed.
        shuffle: Shuffle at all; otherwise the samples come in their order.
        seed: Seed of the order, the same in all processes; None: drawn, and then not resumable.
        round_up: Repeat samples until all processes have equally many.

    Raises:
        ValueError: The data set has no shards, or ``group`` is below 1.
    """

    def __init__(
        self,
        dataset: Sized,
        *,
        group: int = 8,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
    ) -> None:
        shard_of: Tensor | None = getattr(dataset, "groups", None)
        if shard_of is None:
            raise ValueError("ShardSampler needs a data set over shards; use EpochSampler instead")
        integer_from(1).require(group, "group")
        super().__init__(dataset, shuffle=shuffle, seed=seed, round_up=round_up)
        self.group = group
        order = shard_of.argsort(stable=True)
        sizes = shard_of[order].unique_consecutive(return_counts=True)[1]
        self._shards = order.split(sizes.tolist())

    def _indices(self) -> Iterator[int]:
        if not self.shuffle:
            return super()._indices()
        generator = torch.Generator()
        generator.manual_seed(self.seed + self.epoch)
        shards = [self._shards[i] for i in torch.randperm(len(self._shards), generator=generator)]
        parts = []
        for start in range(0, len(shards), self.group):
            samples = torch.cat(shards[start : start + self.group])
            parts.append(samples[torch.randperm(len(samples), generator=generator)])
        order = torch.cat(parts)
        if self.round_up:  # as mmengine's own sampler does it
            order = order.repeat(math.ceil(self.total_size / len(order)))[: self.total_size]
        return iter(order[self.rank : self.total_size : self.world_size].tolist())
