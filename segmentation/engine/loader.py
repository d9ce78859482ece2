"""Training data in an order that a resumed run continues exactly."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import get_detection_dataset_dicts
from detectron2.data.build import build_batch_data_loader
from detectron2.utils import comm
from torch.utils.data import Dataset, Sampler

from fineclip.images import SkippedImages, first_usable
from segmentation.data import build_dataset_mapper
from segmentation.data.catalog import rehearsed_sets
from segmentation.data.registered import registered_set
from segmentation.engine.rehearsal import RehearsedBatches

# Sets the seeds of augmentation apart from those of the order.
_AUGMENTATION = 1


class ResumableSampler(Sampler):
    """Endless shuffled passes over a data set, which can start anywhere.

    Every pass has its own permutation, drawn from the seed and the number of the pass alone.

    Args:
        size: Samples of the data set.
        seed: The same in all processes.
        rank: Of this process, which takes every ``world_size``-th place.
        world_size: Processes.

    Attributes:
        start: Place in the sequence of all processes where :func:`iter` begins.

    Raises:
        ValueError: An empty data set.
    """

    def __init__(self, size: int, seed: int, *, rank: int = 0, world_size: int = 1) -> None:
        if size < 1:
            raise ValueError("the training set has no images")
        self.size = size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yields (index of the sample, seed of its augmentation)."""
        place, drawn, order = self.start + self.rank, -1, np.empty(0, np.int64)
        while True:
            number, within = divmod(place, self.size)
            if number != drawn:
                drawn = number
                order = np.random.default_rng((self.seed, number)).permutation(self.size)
            state = np.random.SeedSequence((self.seed, place, _AUGMENTATION)).generate_state(1)
            yield int(order[within]), int(state[0])
            place += self.world_size


class SeededSamples(Dataset):
    """Mapped records whose augmentation depends on the seed that comes with the index.

    Args:
        records: A data set's.
        mapper: Record -> sample. It may draw from the global generators of ``random`` and NumPy,
            as detectron2's augmentations do.
    """

    def __init__(self, records: Sequence[dict[str, Any]], mapper: Callable[[dict], Any]) -> None:
        self.records = records
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        """The sample of one pair of :class:`ResumableSampler`.

        Another image, drawn by the seed, takes the place of one that cannot be used; the sample
        then has ``skipped``, (file, reason) of each that was tried before.

        Raises:
            UnusableImageError: So many images in a row cannot be used that hardly any can.
        """
        index, seed = key
        others = np.random.default_rng(seed)

        def mapped(index: int) -> Any:
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            return self.mapper(self.records[index])

        states = random.getstate(), np.random.get_state()  # noqa: NPY002 - detectron2 draws from it
        try:
            sample, skipped = first_usable(
                mapped, index, lambda: int(others.integers(len(self.records)))
            )
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
        return {**sample, "skipped": skipped} if skipped else sample


class CountedBatches:
    """Batches of an endless loader, with the images counted that could not be used.

    Each is named once in the log, and a count after each pass.

    Args:
        loader: Yields lists of samples of :class:`SeededSamples`.
        images: Images of a pass, in this process.
    """

    def __init__(self, loader: Iterable[list[dict[str, Any]]], images: int) -> None:
        self.loader = loader
        self.images = images

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        """Yields the batches.

        Raises:
            UnusableImageError: Too many images of a pass cannot be used.
        """
        log = logging.getLogger(__name__)
        named: set[str] = set()
        counter = SkippedImages(self.images)
        for batch in self.loader:
            skipped = [item for sample in batch for item in sample.get("skipped", ())]
            for file, reason in skipped:
                if file not in named:
                    named.add(file)
                    log.warning("skipped %s: %s", file, reason)
            counter.add(len(batch), skipped)
            yield batch
            if counter.used >= self.images:
                if counter.skipped:
                    log.warning("%d images were skipped in this pass", len(counter.skipped))
                counter = SkippedImages(self.images)


def build_train_loader(
    cfg: CfgNode, seed: int
) -> tuple[CountedBatches | RehearsedBatches, ResumableSampler | RehearsedBatches]:
    """Makes the loader of ``DATASETS.TRAIN``, and of ``DATASETS.REHEARSE`` beside it.

    Args:
        cfg: ``SOLVER.IMS_PER_BATCH`` counts the images of all processes;
            ``DATASETS.REHEARSE_SHARE`` is the share of steps on the second data set.
        seed: The same in all processes.

    Returns:
        An endless iterable of lists of samples, and its sampler, whose ``start`` may be set before
        iteration begins.

    Raises:
        ValueError: A data set without images, or several data sets to rehearse.
    """
    loader, sampler = _build_loader(cfg, seed)
    if not cfg.DATASETS.REHEARSE:
        return loader, sampler
    (name,) = rehearsed_sets(cfg)
    second = cfg.clone()
    second.defrost()
    second.DATASETS.TRAIN = (name,)
    second.MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON = ""
    found = registered_set(name, "DATASETS.REHEARSE")
    other, its_sampler = _build_loader(second, seed)
    batches = RehearsedBatches(
        (loader, other),
        (sampler, its_sampler),
        names=found.prompt_names,
        share=cfg.DATASETS.REHEARSE_SHARE,
        images=cfg.SOLVER.IMS_PER_BATCH,
    )
    return batches, batches


def _build_loader(cfg: CfgNode, seed: int) -> tuple[CountedBatches, ResumableSampler]:
    records = get_detection_dataset_dicts(list(cfg.DATASETS.TRAIN), filter_empty=False)
    sampler = ResumableSampler(
        len(records), seed, rank=comm.get_rank(), world_size=comm.get_world_size()
    )
    samples = SeededSamples(records, build_dataset_mapper(cfg, is_train=True))
    loader = build_batch_data_loader(
        samples,
        sampler,
        cfg.SOLVER.IMS_PER_BATCH,
        # Every image becomes a crop of one size.
        aspect_ratio_grouping=False,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    return CountedBatches(loader, -(-len(records) // comm.get_world_size())), sampler
