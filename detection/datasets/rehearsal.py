"""Images of one data set among those of another, so that what was learned is not forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmdet.registry import DATASETS

from fineclip.datasets.rehearsal import rehearsed_per_pass, rehearsed_place


@DATASETS.register_module()
class RehearsedDataset:
    """A data set, and in each epoch a few images of another, drawn anew.

    Both have the classes of one vocabulary; each says which of them were labelled in its images
    (``labelled`` of :class:`detection.datasets.OpenVocabularyCocoDataset`).

    Args:
        dataset: What is trained on: a data set or its config.
        rehearsed: What is not to be forgotten, likewise.
        share: Of an epoch's images that are of ``rehearsed``, below 1.
        seed: Of the draws.

    Raises:
        ValueError: ``share`` is out of range.
    """

    def __init__(
        self, dataset: Any, rehearsed: Any, *, share: float = 0.2, seed: int | None = None
    ) -> None:
        self._own, self._rehearsed = map(_built, (dataset, rehearsed))
        self._number = rehearsed_per_pass(len(self._own), share)
        self._seed = seed or 0

    @property
    def metainfo(self) -> dict[str, Any]:
        """That of the data set that is trained on."""
        return self._own.metainfo

    def full_init(self) -> None:
        """Nothing: both are complete."""

    def __len__(self) -> int:
        return len(self._own) + self._number

    def __getitem__(self, key: int | tuple[int, int]) -> Any:
        """Runs the pipeline on one image.

        Args:
            key: Its place, or epoch and place (:class:`fineclip.datasets.EpochSampler`).
        """
        epoch, place = key if isinstance(key, tuple) else (0, key)
        dataset = self._own
        if place >= len(self._own):
            dataset = self._rehearsed
            place = rehearsed_place(self._seed, epoch, place, len(dataset))
        return dataset[(epoch, place) if isinstance(key, tuple) else place]


def _built(dataset: Any) -> Any:
    return DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
