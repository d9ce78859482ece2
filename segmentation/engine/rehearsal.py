"""Batches of two data sets in turn: one is learned, the other keeps what was known.

Each batch is of one data set, with its own classes: on images of the other, a class would be a
negative wherever nobody has labelled it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

_CHOICE = 2  # sets these seeds apart from those of order and augmentation


class RehearsedBatches:
    """Endless batches, a share of them of a second data set.

    Which one a step is on is drawn from seed and step alone: all processes agree on it, and a
    resumed run repeats it.

    Args:
        loaders: Of the data set that is learned, and of the second.
        samplers: Theirs, of :class:`segmentation.engine.loader.ResumableSampler`.
        names: Classes of the second, which go along with its samples.
        share: Of the steps that are on the second, in [0, 1].
        images: Of a step, in all processes.

    Attributes:
        size: Images of the first data set.
    """

    def __init__(
        self,
        loaders: tuple[Any, Any],
        samplers: tuple[Any, Any],
        *,
        names: Sequence[str],
        share: float,
        images: int,
    ) -> None:
        self.loaders, self.samplers = loaders, samplers
        self.loader = loaders[0].loader
        self.names = tuple(names)
        self.share, self.images = share, images
        self.size = samplers[0].size
        self._start = 0

    @property
    def seed(self) -> int:
        """Of order, augmentation and choice."""
        return self.samplers[0].seed

    @seed.setter
    def seed(self, seed: int) -> None:
        for sampler in self.samplers:
            sampler.seed = seed

    @property
    def start(self) -> int:
        """Images of both that a resumed run has seen."""
        return self._start

    @start.setter
    def start(self, images: int) -> None:
        self._start = images
        steps = images // self.images
        rehearsed = sum(self.is_rehearsed(step) for step in range(steps))
        self.samplers[0].start = (steps - rehearsed) * self.images
        self.samplers[1].start = rehearsed * self.images

    def is_rehearsed(self, step: int) -> bool:
        """Whether a step is on the second data set."""
        return np.random.default_rng((self.seed, step, _CHOICE)).random() < self.share

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        """Yields the batches; samples of the second data set have ``train_classes``."""
        first, second = (iter(loader) for loader in self.loaders)
        step = self._start // self.images
        while True:
            if self.is_rehearsed(step):
                yield [{**sample, "train_classes": self.names} for sample in next(second)]
            else:
                yield next(first)
            step += 1
