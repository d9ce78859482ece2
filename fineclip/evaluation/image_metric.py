"""What the metrics here share: one record per image, each image counted once."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from fineclip.models.embedding_cache import EmbeddingCache


class ImageMetric(BaseMetric):
    """Collects one record per image over all ranks and drops repeated images.

    A distributed sampler repeats a few images so that all ranks get equally many, and mmengine
    removes them by cutting the list to the size of the data set. That needs one result per
    item in sampler order, which images that cannot be decoded would upset; so records carry
    their image id instead. Subclasses fill ``self.results`` with dicts that have ``image_id``.

    Args:
        collect_device: ``"cpu"`` (through files) or ``"gpu"``, as in mmengine.
        prefix: Put before the result names with a slash; none by default, names are distinct.
        collect_dir: Folder shared by all ranks for ``collect_device="cpu"``.
    """

    results: list[Any]
    # An empty prefix keeps mmengine from warning about a missing one.
    default_prefix = ""
    text_cache: EmbeddingCache | None = None  # of the model that is evaluated, if it has one

    def __init__(
        self,
        collect_device: str = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        self._skipped: dict[str, str] = {}
        self._reported: set[str] = set()

    def note_skipped(self, data_batch: Mapping[str, Any] | None) -> None:
        """Remembers what the data set left out, from a batch's ``skipped`` list.

        Args:
            data_batch: A batch of :func:`fineclip.datasets.evaluation_batch.collate_evaluation`.
        """
        if isinstance(data_batch, Mapping):
            self._skipped.update(data_batch.get("skipped", ()))

    def evaluate(self, size: int) -> dict[str, float]:
        """Collects the records of all ranks and computes the results.

        Args:
            size: Number of images of the data set; not needed here.

        Returns:
            The results by name, the same on every rank.
        """
        # One element per rank, so that mmengine neither cuts nor mixes the lists.
        self.results = [(list(self.results), self._skipped)]
        self._skipped = {}
        return super().evaluate(get_world_size())

    def compute_metrics(self, results: Sequence[Any]) -> dict[str, float]:
        """Joins what the ranks collected.

        Args:
            results: For each rank its records and its skipped files.

        Returns:
            The results by name.
        """
        unique: dict[Hashable, Mapping[str, Any]] = {}
        skipped: dict[str, str] = {}
        for records, skipped_here in results:
            skipped.update(skipped_here)
            for record in records:
                unique.setdefault(record["image_id"], record)
        self._report(skipped)
        return self.compute(list(unique.values()), skipped)

    def _report(self, skipped: Mapping[str, str]) -> None:
        """Names each skipped file once in the life of this metric."""
        new = {file: reason for file, reason in skipped.items() if file not in self._reported}
        self._reported.update(new)
        if new:
            lines = [f"  {file}: {reason}" for file, reason in sorted(new.items())]
            print_log(
                f"{type(self).__name__}: left out of the evaluation ({len(new)}):\n"
                + "\n".join(lines),
                logger="current",
                level=logging.WARNING,
            )

    @abstractmethod
    def compute(
        self, records: Sequence[Mapping[str, Any]], skipped: Mapping[str, str]
    ) -> dict[str, float]:
        """Computes the results.

        Args:
            records: One per image, in no particular order.
            skipped: Reason by file of what the data set left out.

        Returns:
            The results by name.
        """
