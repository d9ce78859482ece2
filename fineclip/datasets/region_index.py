"""Flat arrays of everything a region-text data set draws from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log

from fineclip.datasets.packed_strings import PackedStrings
from fineclip.datasets.region_source import ImageRecord, RegionSource, Wanted


class RegionIndex:
    """The usable images of a source, with their captions and boxes.

    What cannot be used (a box outside its image, a missing caption, ...) is left out, counted, and
    reported once per reason with an example.

    Args:
        source: Where the data come from.
        texts: Images need a caption.
        boxes: Boxes are read. Images that are in the data for their boxes alone need one.
        region_texts: Boxes need a caption.
        labels: Boxes get the place of their category.
        images_alone: Images are of use without texts and boxes.
        category_caption: Template of the boxes' captions where the source has none.
        min_area: Smallest area of a box, as cut to the image, in square pixels.
        max_area: Largest such area.
        min_side: Images with a side below this many pixels are left out.
        include_crowd: Keep boxes marked ``iscrowd``.
        num_images: Number of images drawn by ``seed``; None: all.
        seed: Seed of that draw.

    Attributes:
        numbers: (N,) int64 the images' numbers in the source.
        sizes: (N, 2) int64 width and height in pixels.
        captions: All captions of image i are ``captions[caption_ends[i] : caption_ends[i + 1]]``.
        boxes: (sum of n_i, 4) float32 xyxy in pixels, likewise with ``box_ends``.
        region_captions: One per box.
        labels: (sum of n_i,) int64.
        problems: What was left out, by reason.

    Raises:
        FileNotFoundError: A file of the source does not exist.
        ValueError: A file has not the format it should, or no image is left.
    """

    def __init__(
        self,
        source: RegionSource,
        *,
        texts: bool,
        boxes: bool,
        region_texts: bool,
        labels: bool,
        images_alone: bool,
        category_caption: str,
        min_area: float,
        max_area: float,
        min_side: int,
        include_crowd: bool,
        num_images: int | None,
        seed: int,
    ) -> None:
        self.problems: dict[str, list[str]] = defaultdict(list)
        self._area_range = (min_area, max_area)
        self._include_crowd = include_crowd
        self._own_captions = region_texts and source.has_region_captions
        self._category_caption = category_caption if region_texts else None
        data = source.open(
            Wanted(
                captions=texts, annotations=boxes, region_captions=region_texts, categories=labels
            )
        )
        total = len(data)
        numbers = range(total)
        if num_images is not None:
            if num_images > total:
                raise ValueError(f"num_images={num_images}, but {source.where} has {total}")
            numbers = sorted(np.random.default_rng(seed).permutation(total)[:num_images].tolist())
        self._names = {c["id"]: c["name"] for c in data.categories}
        self._place = {c["id"]: place for place, c in enumerate(data.categories)}

        kept, sizes = [], []
        captions, caption_ends = [], [0]
        all_boxes, region_captions, all_labels, box_ends = [], [], [], [0]
        for number, record in zip(numbers, data.records(numbers), strict=True):
            image, file = record.image, record.image["file_name"]
            if min(image["width"], image["height"]) < min_side:
                self.problems[f"image side below {min_side} pixels"].append(file)
                continue
            if texts and not record.captions:
                self.problems["image without caption"].append(file)
                continue
            regions = list(self._usable_regions(record)) if boxes else []
            # What an image is in the batch for: its regions, its caption or its views.
            if boxes and not (texts or images_alone or regions):
                continue
            kept.append(number)
            sizes.append((image["width"], image["height"]))
            captions.extend(record.captions)
            caption_ends.append(len(captions))
            for box, caption, label in regions:
                all_boxes.append(box)
                region_captions.append(caption)
                all_labels.append(label)
            box_ends.append(len(all_boxes))
        for reason, found in self.problems.items():
            print_log(
                f"{source.where}: left out {len(found)} x {reason}, first: {found[0]}",
                "current",
                level=30,
            )
        if not kept:
            raise ValueError(f"{source.where}: no usable image is left of {len(numbers)}")
        self.numbers = torch.tensor(kept)
        self.sizes = torch.tensor(sizes)
        self.captions = PackedStrings(captions)
        self.caption_ends = torch.tensor(caption_ends)
        self.boxes = torch.tensor(all_boxes, dtype=torch.float32).reshape(-1, 4)
        self.box_ends = torch.tensor(box_ends)
        self.region_captions = PackedStrings(region_captions)
        self.labels = torch.tensor(all_labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    def _usable_regions(self, record: ImageRecord):
        """(box xyxy pixels, caption, label) of the boxes that can be used."""
        file = record.image["file_name"]
        for place, annotation in enumerate(record.annotations):
            if annotation.get("iscrowd") and not self._include_crowd:
                continue
            box = self._usable_box(annotation, record.image)
            if box is None:
                continue
            caption: str | None = ""
            category = annotation.get("category_id")
            if self._own_captions:
                caption = record.region_captions[place]
            elif self._category_caption is not None:
                name = self._names.get(category)
                caption = None if name is None else self._category_caption.format(name)
            if caption is None:
                self.problems["region without caption"].append(
                    f"{file} (annotation {annotation.get('id')})"
                )
                continue
            yield box, caption, self._place.get(category, -1)

    def _usable_box(
        self, annotation: Mapping[str, Any], image: Mapping[str, Any]
    ) -> list[float] | None:
        """The box as xyxy pixels cut to the image, or None with the reason recorded."""
        file, box = image["file_name"], annotation["bbox"]
        where = f"{file} (annotation {annotation.get('id')}, box {box})"
        try:
            x, y, w, h = map(float, box)
        except (TypeError, ValueError):
            self.problems["box that is not four numbers"].append(where)
            return None
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + w, image["width"]), min(y + h, image["height"])
        # Written so that NaN counts as outside as well.
        if not (x1 > x0 and y1 > y0):
            self.problems["box empty or outside its image"].append(where)
            return None
        if not self._area_range[0] <= (x1 - x0) * (y1 - y0) <= self._area_range[1]:
            self.problems["box area out of range"].append(where)
            return None
        return [x0, y0, x1, y1]
