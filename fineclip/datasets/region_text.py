"""Images with captions, boxes, crops and region captions, from COCO-format files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fineclip.datasets.decoding import Backend, DecodedImage, decode_image, safe_reduction
from fineclip.datasets.files import UnusableImageError
from fineclip.datasets.grid_regions import grid_shapes, random_grid_cells
from fineclip.datasets.multi_crop import MultiCrop, ViewPlan
from fineclip.datasets.region_index import RegionIndex
from fineclip.datasets.region_source import AnnotationFiles, RegionSource
from fineclip.datasets.region_text_batch import RegionTextBatch, collate_region_text
from fineclip.datasets.resampling import stack_images
from fineclip.datasets.samplers import EpochSampler
from fineclip.datasets.shards import Shards
from fineclip.datasets.transforms import ImageTransform, as_transform, enlarge_boxes
from fineclip.registry import DATASETS
from fineclip.text.tokenizers import Tokenizer, get_tokenizer

_CACHED_CAPTIONS = 1 << 15
FIELDS = ("texts", "boxes", "crops", "region_texts")
Regions = Literal["boxes", "grid"]

__all__ = [
    "FIELDS",
    "EpochSampler",
    "RegionTextBatch",
    "RegionTextDataset",
    "collate_region_text",
]


@DATASETS.register_module()
class RegionTextDataset(Dataset):
    """Region-text data in COCO's file formats, or in shards made of them.

    What can be seen in the annotations (a box outside its image, a missing caption, ...) is left
    out at construction, counted, and reported once per reason with an example. An image that
    turns out not to be decodable is left out of its batch and named in ``skipped``.

    Boxes are filtered before ``max_boxes`` are drawn; the reference release draws first and
    filters then, which wastes slots. A box that sticks out of its image is cut to it.

    With ``regions="grid"`` the annotations supply the list of images alone, and regions are cells
    of a grid drawn anew each time (CLIPSelf's image patches, see
    :func:`fineclip.datasets.grid_regions.grid_shapes`), shuffled and cut out as they are.

    All draws of a sample are made first, from the sizes that the annotations state. Its image is
    then decoded once, and everything is resized from those pixels.

    Args:
        image_root: Folder of the images.
        annotations: COCO instances or proposals JSON (images, annotations with bbox xywh pixels).
        shards: Folder that :func:`fineclip.datasets.shard_writer.make_shards` has written, in
            place of ``image_root``, ``annotations``, ``captions`` and ``region_captions``; samples
            are the same.
        tokenizer: Model name whose open_clip tokenizer is used, or a callable from a list of
            strings to (n, T) int64.
        captions: COCO captions JSON; needed for the field "texts". One caption of an image is
            drawn each time.
        region_captions: JSON of :class:`RegionCaptions`. Without it the field "region_texts"
            holds ``category_caption`` filled in with the category's name.
        category_caption: Template with one ``{}``.
        fields: What a sample holds beside the image, out of "texts", "boxes", "crops" and
            "region_texts". What is not asked for is neither loaded nor required.
        regions: "boxes" of the annotations, or cells of a random "grid", which have no captions.
        max_grid: Most rows or columns of the grid.
        labels: Samples hold ``region_labels``: the place of a box's category among the categories
            of the annotation file, -1 for boxes without one. The pretrainer's vocabulary has to
            list the same categories in the same order, as the file itself does.
        views: Arguments of :class:`fineclip.datasets.multi_crop.MultiCrop`; samples then hold its
            ``global_views`` and ``local_views`` (SILC).
        transform: Geometry of the image, an :class:`ImageTransform` or its arguments.
        crop_transform: Geometry of the crops, by default that of the image.
        max_boxes: Boxes or cells drawn per image and epoch.
        min_area: Smallest area of a box, as cut to the image, in square pixels.
        max_area: Largest box area in square pixels.
        crop_scale: Factor on box width and height for the crop (CLIPSelf, sec. 3.2: 1.5); cells
            of a grid are not enlarged.
        min_side: Images with a side below this many pixels are left out.
        include_crowd: Keep boxes marked ``iscrowd``.
        num_images: Train on this many images of the file, drawn by ``seed``, smaller numbers
            from among the larger ones' images; None: on all.
        context_length: Text tokens T, by default the tokenizer's.
        backend: "pil" resizes with Pillow, as the release does. "tensor" decodes into tensors and
            resizes with torch, which loads over twice as many images per second (3.7 times as
            many as the release's way, tools/benchmark_loading.py); draws are the same, pixels
            differ by what :mod:`fineclip.datasets.resampling` says, and batches are in
            channels-last memory.
        reduced_decoding: Decode a JPEG file at 1/2, 1/4 or 1/8 of its size if everything drawn
            from it (image, crops, views) shrinks it by at least that much. The image view of
            COCO photographs then differs by 1.2 grey levels of 255 on average, single pixels by
            up to 38 (bilinear, 224 pixels).
        seed: Seed of all draws.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: A file has not the format it should, an argument is contradictory, or no
            image is left.
    """

    def __init__(
        self,
        *,
        image_root: str | Path | None = None,
        annotations: str | Path | None = None,
        shards: str | Path | None = None,
        tokenizer: str | Tokenizer,
        captions: str | Path | None = None,
        region_captions: str | Path | None = None,
        category_caption: str = "a photo of a {}",
        fields: Sequence[str] = FIELDS,
        regions: Regions = "boxes",
        max_grid: int = 6,
        labels: bool = False,
        views: MultiCrop | Mapping[str, Any] | None = None,
        transform: ImageTransform | Mapping[str, Any],
        crop_transform: ImageTransform | Mapping[str, Any] | None = None,
        max_boxes: int = 20,
        min_area: float = 8 * 8,
        max_area: float = 1024 * 1024,
        crop_scale: float = 1.5,
        min_side: int = 10,
        include_crowd: bool = False,
        num_images: int | None = None,
        context_length: int | None = None,
        backend: Backend = "pil",
        reduced_decoding: bool = True,
        seed: int = 0,
    ) -> None:
        if unknown := sorted(set(fields) - set(FIELDS)):
            raise ValueError(f"fields: unknown {', '.join(unknown)}; known: {', '.join(FIELDS)}")
        if backend not in get_args(Backend):
            raise ValueError(f"backend must be 'pil' or 'tensor', got {backend!r}")
        if "texts" in fields and captions is None and shards is None:
            raise ValueError('the field "texts" needs a captions file: set captions=...')
        if category_caption.count("{}") != 1:
            raise ValueError(f"category_caption needs one {{}}, got {category_caption!r}")
        if regions not in get_args(Regions):
            raise ValueError(f"regions must be 'boxes' or 'grid', got {regions!r}")
        if regions == "grid" and (labels or "region_texts" in fields):
            what = "labels" if labels else 'the field "region_texts"'
            raise ValueError(
                f"the cells of a grid have neither labels nor captions: drop {what}, or set "
                'regions="boxes"'
            )
        self.source = _source(image_root, annotations, captions, region_captions, shards)
        self.fields = frozenset(fields)
        self.with_regions = bool(self.fields - {"texts"}) or labels
        self.with_labels = labels
        self.grids = grid_shapes(max_grid) if regions == "grid" else None
        self.views = MultiCrop(**views) if isinstance(views, Mapping) else views
        self.transform = as_transform(transform)
        self.crop_transform = as_transform(crop_transform or transform)
        self.max_boxes = max_boxes
        self.crop_scale = crop_scale if self.grids is None else 1.0
        self.backend = backend
        self.reduced_decoding = reduced_decoding
        self.seed = seed
        if isinstance(tokenizer, str):
            tokenizer = get_tokenizer(tokenizer, context_length)
        # Captions recur, those made from category names above all, and tokenizing is slow.
        self._tokenize = lru_cache(maxsize=_CACHED_CAPTIONS)(lambda text: tokenizer([text])[0])
        self._index = RegionIndex(
            self.source,
            texts="texts" in self.fields,
            boxes=self.with_regions and self.grids is None,
            region_texts="region_texts" in self.fields,
            labels=labels,
            images_alone=self.views is not None,
            category_caption=category_caption,
            min_area=min_area,
            max_area=max_area,
            min_side=min_side,
            include_crowd=include_crowd,
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
        plan = None
        if self.views is not None:
            # Draws of their own: the same views whatever else a sample holds.
            view_rng = np.random.default_rng((self.seed, epoch, index, 1))
            plan = self.views.draw(width, height, view_rng)
        crop_boxes: list[list[float]] = []
        if self.with_regions:
            boxes = self._add_regions(sample, index, rng)  # (n, 4) xyxy pixels
            if "crops" in self.fields:
                crop_boxes = enlarge_boxes(boxes, self.crop_scale, width, height).tolist()
        try:
            image = self._decode(index, crop_boxes, plan)
        except UnusableImageError as error:
            # No row of anything. Tokens and boxes keep their widths.
            sample = {name: rows[:0] for name, rows in sample.items()}
            image, crop_boxes = None, []
            sample["skipped"] = [(error.file, error.reason)]
        else:
            sample["skipped"] = []
        self._add_pixels(sample, image, crop_boxes, plan)
        return sample

    def _add_regions(self, sample: RegionTextBatch, index: int, rng: np.random.Generator) -> Tensor:
        """Draws the regions of one image; returns their boxes, (n, 4) xyxy pixels."""
        width, height = self._index.sizes[index].tolist()
        if self.grids is None:
            start, end = self._index.box_ends[index : index + 2].tolist()
            chosen = torch.from_numpy(start + rng.permutation(end - start)[: self.max_boxes])
            boxes = self._index.boxes[chosen]
        else:
            boxes = random_grid_cells(
                width, height, shapes=self.grids, max_cells=self.max_boxes, rng=rng
            )
        sample["boxes"] = self.transform.map_boxes(boxes, width, height)
        sample["region_image"] = torch.zeros(len(boxes), dtype=torch.int64)
        if self.with_labels:
            sample["region_labels"] = self._index.labels[chosen]
        if "region_texts" in self.fields:
            # The empty caption only lends its shape: there may be no region at all.
            captions = ["", *(self._index.region_captions[i] for i in chosen.tolist())]
            sample["region_texts"] = torch.stack([self._tokenize(c) for c in captions])[1:]
        return boxes

    def _decode(
        self, index: int, crop_boxes: Sequence[Sequence[float]], plan: ViewPlan | None
    ) -> DecodedImage:
        """The image of a sample, at the size that all that is drawn from it needs."""
        width, height = self._index.sizes[index].tolist()
        reduction = 1
        if self.reduced_decoding:
            shrinks = [self.transform.shrink(width, height)]
            shrinks += [self.crop_transform.shrink(b[2] - b[0], b[3] - b[1]) for b in crop_boxes]
            if plan is not None:
                shrinks += self.views.shrinks(plan)
            reduction = safe_reduction(shrinks)
        number = int(self._index.numbers[index])
        return decode_image(
            self.source.read(number),
            self.source.file(number),
            backend=self.backend,
            size=(width, height),
            reduction=reduction,
        )

    def _add_pixels(
        self,
        sample: RegionTextBatch,
        image: DecodedImage | None,
        crop_boxes: Sequence[Sequence[float]],
        plan: ViewPlan | None,
    ) -> None:
        """Resizes everything that shows something of the image, if there is one."""
        if image is None:
            sample["images"] = self.transform.none()
        else:
            sample["images"] = stack_images([self.transform(image)])
        if self.views is not None:
            views = self.views.none()
            if image is not None:
                views = (view[None] for view in self.views.cut(image, plan))
            sample["global_views"], sample["local_views"] = views
        if "crops" in self.fields:
            crops = [self.crop_transform(image, box) for box in crop_boxes]
            sample["crops"] = stack_images(crops) if crops else self.crop_transform.none()


def _source(
    image_root: str | Path | None,
    annotations: str | Path | None,
    captions: str | Path | None,
    region_captions: str | Path | None,
    shards: str | Path | None,
) -> RegionSource:
    files = {
        "image_root": image_root,
        "annotations": annotations,
        "captions": captions,
        "region_captions": region_captions,
    }
    if shards is not None:
        if given := [name for name, value in files.items() if value is not None]:
            raise ValueError(f"shards hold all of {', '.join(given)}: set either, not both")
        return Shards(shards)
    if image_root is None or annotations is None:
        raise ValueError("set image_root and annotations, or shards")
    return AnnotationFiles(
        image_root, annotations, captions=captions, region_captions=region_captions
    )
