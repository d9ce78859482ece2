"""Images with captions, boxes, crops and region captions, from COCO-format files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from mmengine.dataset import DefaultSampler
from mmengine.logging import print_log
from PIL import Image
from torch.utils.data import Dataset

from fineclip.datasets.files import UnusableImageError, open_image, read_json, require_keys
from fineclip.datasets.grid_regions import grid_shapes, random_grid_cells
from fineclip.datasets.multi_crop import MultiCrop
from fineclip.datasets.packed_strings import PackedStrings
from fineclip.datasets.region_captions import RegionCaptions
from fineclip.datasets.region_text_batch import RegionTextBatch, collate_region_text
from fineclip.datasets.transforms import ImageTransform, as_transform, enlarge_boxes
from fineclip.registry import DATA_SAMPLERS, DATASETS
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
    """Region-text data in COCO's file formats.

    What can be seen in the annotations (a box outside its image, a missing caption, ...) is left
    out at construction, counted, and reported once per reason with an example. An image that
    turns out not to be decodable is left out of its batch and named in ``skipped``.

    Boxes are filtered before ``max_boxes`` are drawn; the reference release draws first and
    filters then, which wastes slots. A box that sticks out of its image is cut to it.

    With ``regions="grid"`` the annotations supply the list of images alone, and regions are cells
    of a grid drawn anew each time (CLIPSelf's image patches, see
    :func:`fineclip.datasets.grid_regions.grid_shapes`), shuffled and cut out as they are.

    Args:
        image_root: Folder of the images.
        annotations: COCO instances or proposals JSON (images, annotations with bbox xywh pixels).
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
        seed: Seed of all draws.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: A file has not the format it should, an argument is contradictory, or no
            image is left.
    """

    def __init__(
        self,
        *,
        image_root: str | Path,
        annotations: str | Path,
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
        seed: int = 0,
    ) -> None:
        if unknown := sorted(set(fields) - set(FIELDS)):
            raise ValueError(f"fields: unknown {', '.join(unknown)}; known: {', '.join(FIELDS)}")
        if "texts" in fields and captions is None:
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
        self.image_root = Path(image_root)
        if not self.image_root.is_dir():
            raise FileNotFoundError(f"image folder {self.image_root} does not exist")
        self.fields = frozenset(fields)
        self.with_regions = bool(self.fields - {"texts"}) or labels
        self.with_labels = labels
        self.grids = grid_shapes(max_grid) if regions == "grid" else None
        self.views = MultiCrop(**views) if isinstance(views, Mapping) else views
        self.transform = as_transform(transform)
        self.crop_transform = as_transform(crop_transform or transform)
        self.max_boxes = max_boxes
        self.crop_scale = crop_scale if self.grids is None else 1.0
        self.seed = seed
        if isinstance(tokenizer, str):
            tokenizer = get_tokenizer(tokenizer, context_length)
        # Captions recur, those made from category names above all, and tokenizing is slow.
        self._tokenize = lru_cache(maxsize=_CACHED_CAPTIONS)(lambda text: tokenizer([text])[0])
        self._problems: dict[str, list[str]] = defaultdict(list)
        self._index(
            annotations=Path(annotations),
            captions=captions,
            region_captions=RegionCaptions(region_captions) if region_captions else None,
            category_caption=category_caption,
            area_range=(min_area, max_area),
            min_side=min_side,
            include_crowd=include_crowd,
            num_images=num_images,
        )

    def _index(
        self,
        *,
        annotations: Path,
        captions: str | Path | None,
        region_captions: RegionCaptions | None,
        category_caption: str,
        area_range: tuple[float, float],
        min_side: int,
        include_crowd: bool,
        num_images: int | None,
    ) -> None:
        """Reads the annotation files into flat arrays, leaving out what cannot be used."""
        data = read_json(annotations, "annotations")
        require_keys(data, ["images"], f"annotations: {annotations}")
        images = data["images"]
        for image in images:
            require_keys(
                image, ["id", "file_name", "width", "height"], f"annotations: {annotations}: image"
            )
        if num_images is not None:
            if num_images > len(images):
                raise ValueError(f"num_images={num_images}, but {annotations} has {len(images)}")
            chosen = np.random.default_rng(self.seed).permutation(len(images))[:num_images]
            images = [images[i] for i in sorted(chosen)]
        image_captions = self._read_captions(captions) if "texts" in self.fields else {}
        regions_of: dict[int, list[dict]] = defaultdict(list)
        with_boxes = self.with_regions and self.grids is None
        if with_boxes:
            require_keys(data, ["annotations"], f"annotations: {annotations}")
            for annotation in data["annotations"]:
                require_keys(
                    annotation, ["image_id", "bbox"], f"annotations: {annotations}: annotation"
                )
                regions_of[annotation["image_id"]].append(annotation)
        if self.with_labels:
            require_keys(data, ["categories"], f"annotations: {annotations}: labels")
        categories = data.get("categories", ())
        names = {c["id"]: c["name"] for c in categories}
        index_of = {c["id"]: index for index, c in enumerate(categories)}

        files, sizes, texts, text_ends = [], [], [], []
        boxes, box_ends, region_texts, labels = [], [], [], []
        for image in images:
            file = image["file_name"]
            if min(image["width"], image["height"]) < min_side:
                self._problems[f"image side below {min_side} pixels"].append(file)
                continue
            own_captions = image_captions.get(image["id"], [])
            if "texts" in self.fields and not own_captions:
                self._problems["image without caption"].append(file)
                continue
            own_regions = []
            for annotation in regions_of[image["id"]]:
                if annotation.get("iscrowd") and not include_crowd:
                    continue
                box = self._usable_box(annotation, image, area_range)
                if box is None:
                    continue
                caption = ""
                if "region_texts" in self.fields:
                    if region_captions is not None:
                        caption = region_captions.get(annotation, file)
                    elif annotation.get("category_id") in names:
                        caption = category_caption.format(names[annotation["category_id"]])
                    else:
                        caption = None
                    if caption is None:
                        self._problems["region without caption"].append(
                            f"{file} (annotation {annotation.get('id')})"
                        )
                        continue
                label = index_of.get(annotation.get("category_id"), -1)
                own_regions.append((box, caption, label))
            # What an image is in the batch for: its regions, its caption or its views.
            if with_boxes and "texts" not in self.fields and not self.views and not own_regions:
                continue
            files.append(file)
            sizes.append((image["width"], image["height"]))
            texts.extend(own_captions)
            text_ends.append(len(texts))
            boxes.extend(box for box, _, _ in own_regions)
            region_texts.extend(caption for _, caption, _ in own_regions)
            labels.extend(label for _, _, label in own_regions)
            box_ends.append(len(boxes))
        for reason, found in self._problems.items():
            print_log(
                f"{annotations}: left out {len(found)} x {reason}, first: {found[0]}",
                "current",
                level=30,
            )
        if not files:
            raise ValueError(f"{annotations}: no usable image is left of {len(images)}")
        self._files = PackedStrings(files)
        self._sizes = torch.tensor(sizes)  # (N, 2) width, height
        self._texts = PackedStrings(texts)
        self._text_ends = torch.tensor([0, *text_ends])
        self._boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)  # xyxy pixels
        self._box_ends = torch.tensor([0, *box_ends])
        self._region_texts = PackedStrings(region_texts)
        self._labels = torch.tensor(labels, dtype=torch.int64)

    def _read_captions(self, path: str | Path) -> dict[int, list[str]]:
        data = read_json(path, "captions")
        require_keys(data, ["annotations"], f"captions: {path}")
        captions: dict[int, list[str]] = defaultdict(list)
        for annotation in data["annotations"]:
            require_keys(annotation, ["image_id", "caption"], f"captions: {path}: annotation")
            caption = annotation["caption"]
            if not isinstance(caption, str):
                raise ValueError(f"captions: {path}: a caption must be a string, got {caption!r}")
            if caption.strip():
                captions[annotation["image_id"]].append(caption.strip())
        return captions

    def _usable_box(
        self, annotation: Mapping[str, Any], image: Mapping[str, Any], area_range: tuple
    ) -> list[float] | None:
        """The box as xyxy pixels cut to the image, or None with the reason recorded."""
        file, box = image["file_name"], annotation["bbox"]
        where = f"{file} (annotation {annotation.get('id')}, box {box})"
        try:
            x, y, w, h = map(float, box)
        except (TypeError, ValueError):
            self._problems["box that is not four numbers"].append(where)
            return None
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + w, image["width"]), min(y + h, image["height"])
        # Written so that NaN counts as outside as well.
        if not (x1 > x0 and y1 > y0):
            self._problems["box empty or outside its image"].append(where)
            return None
        if not area_range[0] <= (x1 - x0) * (y1 - y0) <= area_range[1]:
            self._problems["box area out of range"].append(where)
            return None
        return [x0, y0, x1, y1]

    def __len__(self) -> int:
        return len(self._files)

    @property
    def problems(self) -> dict[str, int]:
        """How many images or regions were left out at construction, by reason."""
        return {reason: len(found) for reason, found in self._problems.items()}

    def __getitem__(self, key: int | tuple[int, int]) -> RegionTextBatch:
        """A batch of one image, or of none where it cannot be decoded.

        Args:
            key: Index, or (epoch, index) as :class:`EpochSampler` yields: draws then depend on
                seed, epoch and index alone, so that a resumed run repeats them.
        """
        epoch, index = key if isinstance(key, tuple) else (int(torch.randint(2**31, ())), key)
        rng = np.random.default_rng((self.seed, epoch, index))
        path = self.image_root / self._files[index]
        width, height = self._sizes[index].tolist()
        skipped = []
        try:
            image = open_image(path)
            if image.size != (width, height):
                raise UnusableImageError(
                    path,
                    f"is {image.size[0]} x {image.size[1]} pixels, the annotations say "
                    f"{width} x {height}",
                )
        except UnusableImageError as error:
            image = None
            skipped.append((error.file, error.reason))
        present = int(image is not None)
        sample: RegionTextBatch = {"skipped": skipped}
        size = self.transform.size
        sample["images"] = (
            self.transform(image)[None] if present else torch.zeros(0, 3, size, size).byte()
        )
        if "texts" in self.fields:
            start, end = self._text_ends[index : index + 2].tolist()
            caption = self._texts[start + int(rng.integers(end - start))]
            sample["texts"] = self._tokenize(caption)[None][:present]
        if self.views is not None:
            # Draws of their own: the same views whatever else a sample holds.
            view_rng = np.random.default_rng((self.seed, epoch, index, 1))
            views = self.views(image if present else Image.new("RGB", (1, 1)), view_rng)
            sample["global_views"], sample["local_views"] = (v[None][:present] for v in views)
        if self.with_regions:
            self._add_regions(sample, index, image, rng)
        return sample

    def _add_regions(
        self,
        sample: RegionTextBatch,
        index: int,
        image: Image.Image | None,
        rng: np.random.Generator,
    ) -> None:
        """Draws the regions of one image, none where it cannot be decoded."""
        width, height = self._sizes[index].tolist()
        max_boxes = self.max_boxes if image is not None else 0
        if self.grids is None:
            start, end = self._box_ends[index : index + 2].tolist()
            chosen = torch.from_numpy(start + rng.permutation(end - start)[:max_boxes])
            boxes = self._boxes[chosen]  # (n, 4) xyxy pixels
        else:
            boxes = random_grid_cells(
                width, height, shapes=self.grids, max_cells=max_boxes, rng=rng
            )
        sample["boxes"] = self.transform.map_boxes(boxes, width, height)
        sample["region_image"] = torch.zeros(len(boxes), dtype=torch.int64)
        if self.with_labels:
            sample["region_labels"] = self._labels[chosen]
        if "crops" in self.fields:
            size = self.crop_transform.size
            crops = [torch.zeros(0, 3, size, size).byte()]
            for box in enlarge_boxes(boxes, self.crop_scale, width, height).tolist():
                crops.append(self.crop_transform(image, box)[None])
            sample["crops"] = torch.cat(crops)
        if "region_texts" in self.fields:
            # The empty caption only lends its shape: there may be no region at all.
            captions = ["", *(self._region_texts[i] for i in chosen.tolist())]
            sample["region_texts"] = torch.stack([self._tokenize(c) for c in captions])[1:]


@DATA_SAMPLERS.register_module()
class EpochSampler(DefaultSampler):
    """mmengine's default sampler, with the epoch in every key: yields (epoch, index).

    Random draws of a sample can then be a function of seed, epoch and index, whatever worker
    makes them and wherever training was resumed.
    """

    def __iter__(self):
        return ((self.epoch, index) for index in super().__iter__())
