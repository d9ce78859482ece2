"""Images with captions, boxes, crops and region captions, from COCO-format files or shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fineclip.checks import integer_from, nearest
from fineclip.datasets.image_reader import ImageReader
from fineclip.datasets.multi_crop import MultiCrop, ViewPlan
from fineclip.datasets.region_index import RegionIndex
from fineclip.datasets.region_source import RegionSource
from fineclip.datasets.region_text_batch import (
    RegionTextBatch,
    collate_region_text,
    without_rows,
)
from fineclip.datasets.regions import BoxRegions, Regions
from fineclip.datasets.samplers import EpochSampler
from fineclip.datasets.shards import Shards
from fineclip.datasets.transforms import enlarge_boxes
from fineclip.images import UnusableImageError
from fineclip.registry import DATA_PARTS, DATASETS
from fineclip.text.tokenizers import Tokenizer, get_tokenizer

_CACHED_CAPTIONS = 1 << 15
FIELDS = ("texts", "boxes", "crops", "region_texts")

__all__ = [
    "FIELDS",
    "EpochSampler",
    "RegionTextBatch",
    "RegionTextDataset",
    "collate_region_text",
]


@DATASETS.register_module()
class RegionTextDataset(Dataset):
    """Region-text data: images, their captions, regions of them, and what those are called.

    Its parts are objects or, as in a config, their arguments: where the data come from, which
    regions an image has, how it becomes pixels, and which further views are cut out of it.

    What can be seen in the annotations (a box outside its image, a missing caption, ...) is left
    out at construction, counted, and reported once per reason with an example. An image that
    turns out not to be decodable is left out of its batch and named in ``skipped``.

    All draws of a sample are made first, from the sizes that the annotations state. Its image is
    then decoded once, and everything is resized from those pixels.

    Args:
        source: :class:`fineclip.datasets.region_source.AnnotationFiles` or
            :class:`fineclip.datasets.shards.Shards`; samples are the same.
        images: :class:`fineclip.datasets.image_reader.ImageReader`: sizes of image and crops.
        tokenizer: Model name whose open_clip tokenizer is used, or a callable from a list of
            strings to (n, T) int64.
        context_length: Text tokens T, by default the tokenizer's.
        fields: What a sample holds beside the image, out of "texts" (one caption of the image,
            drawn each time), "boxes", "crops" and "region_texts". What is not asked for is neither
            loaded nor required.
        regions: :class:`fineclip.datasets.regions.BoxRegions`, by default, or
            :class:`fineclip.datasets.grid_regions.GridRegions`, which have no captions.
        views: :class:`fineclip.datasets.multi_crop.MultiCrop`; samples then hold its
            ``global_views`` and ``local_views`` (SILC).
        min_side: Images with a side below this many pixels are left out.
        num_images: Train on this many images of the source, drawn by ``seed``, smaller numbers
            from among the larger ones' images; None: on all.
        seed: Seed of all draws.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: A file has not the format it should, an argument is contradictory, or no
            image is left.
    """

    def __init__(
        self,
        *,
        source: RegionSource | Mapping[str, Any],
        images: ImageReader | Mapping[str, Any],
        tokenizer: str | Tokenizer,
        context_length: int | None = None,
        fields: Sequence[str] = FIELDS,
        regions: Regions | Mapping[str, Any] | None = None,
        views: MultiCrop | Mapping[str, Any] | None = None,
        min_side: int = 10,
        num_images: int | None = None,
        seed: int = 0,
    ) -> None:
        if unknown := sorted(set(fields) - set(FIELDS)):
            raise ValueError(f"fields: unknown {', '.join(unknown)}; known: {', '.join(FIELDS)}")
        if num_images is not None:
            integer_from(1).require(num_images, "num_images")
        integer_from(0).require(min_side, "min_side")
        integer_from(0, 2**32 - 1).require(seed, "seed")
        self.regions: Regions = BoxRegions() if regions is None else _built(regions, "regions")
        if "region_texts" in fields and not self.regions.annotated:
            raise ValueError(
                f'{type(self.regions).__name__} have no captions: drop the field "region_texts", '
                "or use BoxRegions"
            )
        self.source: RegionSource = _built(source, "source")
        self.images = ImageReader(**images) if isinstance(images, Mapping) else images
        self.views = MultiCrop(**views) if isinstance(views, Mapping) else views
        self.fields = frozenset(fields)
        self.with_regions = bool(self.fields - {"texts"}) or self.regions.labels
        self.seed = seed
        if isinstance(tokenizer, str):
            tokenizer = get_tokenizer(tokenizer, context_length)
        # Captions recur, those made from category names above all, and tokenizing is slow.
        self._tokenize = lru_cache(maxsize=_CACHED_CAPTIONS)(lambda text: tokenizer([text])[0])
        self._index = RegionIndex(
            self.source,
            fields=self.fields,
            regions=self.regions if self.with_regions and self.regions.annotated else None,
            images_alone=self.views is not None,
            min_side=min_side,
            num_images=num_images,
            seed=seed,
        )

    def __len__(self) -> int:
        return len(self._index)

    @property
    def problems(self) -> dict[str, int]:
        """How many images or regions were left out at construction, by reason."""
        return {reason: len(found) for reason, found in self._index.problems.items()}

    @property
    def groups(self) -> Tensor | None:
        """(N,) int64 shard that each sample lies in; None if there are no shards."""
        if not isinstance(self.source, Shards):
            return None
        return self.source.shard_of(self._index.numbers)

    def __getitem__(self, key: int | tuple[int, int]) -> RegionTextBatch:
        """A batch of one image, or of none where it cannot be decoded.

        Args:
            key: Index, or (epoch, index) as :class:`EpochSampler` yields: draws then depend on
                seed, epoch and index alone, so that a resumed run repeats them.
        """
        epoch, index = key if isinstance(key, tuple) else (int(torch.randint(2**31, ())), key)
        rng = np.random.default_rng((self.seed, epoch, index))
        width, height = self._index.sizes[index].tolist()
        sample: RegionTextBatch = {}
        if "texts" in self.fields:
            start, end = self._index.caption_ends[index : index + 2].tolist()
            caption = self._index.captions[start + int(rng.integers(end - start))]
            sample["texts"] = self._tokenize(caption)[None]
        plan: ViewPlan | None = None
        shrinks: list[float] = []
        if self.views is not None:
            # Draws of their own: the same views whatever else a sample holds.
            view_rng = np.random.default_rng((self.seed, epoch, index, 1))
            plan = self.views.draw(width, height, view_rng)
            shrinks = self.views.shrinks(plan)
        crop_boxes: list[list[float]] = []
        if self.with_regions:
            boxes = self._add_regions(sample, index, rng)  # (n, 4) xyxy pixels
            if "crops" in self.fields:
                crop_boxes = enlarge_boxes(boxes, self.regions.crop_scale, width, height).tolist()
        try:
            number = int(self._index.numbers[index])
            image = self.images.decode(
                self.source.read(number),
                self.source.file(number),
                size=(width, height),
                crop_boxes=crop_boxes,
                shrinks=shrinks,
            )
        except UnusableImageError as error:
            # No row of anything. Tokens and boxes keep their widths.
            sample = without_rows(sample)
            image = None
            sample["skipped"] = [(error.file, error.reason)]
        else:
            sample["skipped"] = []
        sample["images"] = self.images.whole(image)
        if "crops" in self.fields:
            sample["crops"] = self.images.crops(image, crop_boxes)
        if self.views is not None and plan is not None:
            views = self.views.none()
            if image is not None:
                wide, narrow = self.views.cut(image, plan)
                views = wide[None], narrow[None]
            sample["global_views"], sample["local_views"] = views
        return sample

    def _add_regions(self, sample: RegionTextBatch, index: int, rng: np.random.Generator) -> Tensor:
        """Draws the regions of one image; returns their boxes, (n, 4) xyxy pixels."""
        width, height = self._index.sizes[index].tolist()
        start, end = self._index.box_ends[index : index + 2].tolist()
        boxes, chosen = self.regions.draw(self._index.boxes[start:end], width, height, rng)
        chosen = start + chosen
        sample["boxes"] = self.images.transform.map_boxes(boxes, width, height)
        sample["region_image"] = torch.zeros(len(boxes), dtype=torch.int64)
        if self.regions.labels:
            sample["region_labels"] = self._index.labels[chosen]
        if "region_texts" in self.fields:
            # The empty caption only lends its shape: there may be no region at all.
            captions = ["", *(self._index.region_captions[i] for i in chosen.tolist())]
            sample["region_texts"] = torch.stack([self._tokenize(c) for c in captions])[1:]
        return boxes


def _built(part: Any, name: str) -> Any:
    if not isinstance(part, Mapping):
        return part
    if DATA_PARTS.get(part.get("type")) is None:
        known = nearest(str(part.get("type")), DATA_PARTS.module_dict)
        raise ValueError(f"{name}: unknown type {part.get('type')!r}; {known}")
    return DATA_PARTS.build(part)
