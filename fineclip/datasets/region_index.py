"""Flat arrays of everything a region-text data set draws from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np
import torch
from mmengine.logging import print_log

from fineclip.datasets.packed_strings import PackedStrings
from fineclip.datasets.region_source import ReadSettings, RegionSource
from fineclip.datasets.regions import BoxRegions


class RegionIndex:
    """The usable images of a source, with their captions and boxes.

    What cannot be used (a box outside its image, a missing caption, ...) is left out, counted, and
    reported once per reason with an example.

    Args:
        source: Where the data come from.
        fields: What samples hold; with "texts" images need a caption, with "region_texts" boxes.
        regions: Which boxes are usable; None: none are read. Images that are in the data for
            their boxes alone need one.
        images_alone: Images are of use without texts and boxes.
        min_side: Images with a side below this many pixels are left out.
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
        ValueError: A file has not the format it should, or no image, or no box of
            those that are asked for, is left.
    """

    def __init__(
        self,
        source: RegionSource,
        *,
        fields: Collection[str],
        regions: BoxRegions | None,
        images_alone: bool,
        min_side: int,
        num_images: int | None,
        seed: int,
    ) -> None:
        self.problems: dict[str, list[str]] = defaultdict(list)
        texts, captioned = "texts" in fields, "region_texts" in fields
        data = source.open(
            ReadSettings(
                captions=texts,
                annotations=regions is not None,
                region_captions=captioned,
                categories=regions is not None and regions.labels,
            )
        )
        total = len(data)
        numbers: Sequence[int] = range(total)
        if num_images is not None:
            if num_images > total:
                raise ValueError(f"num_images={num_images}, but {source.where} has {total}")
            numbers = sorted(np.random.default_rng(seed).permutation(total)[:num_images].tolist())

        categories = {c["id"]: (place, c.get("name")) for place, c in enumerate(data.categories)}
        kept, sizes = [], []
        captions: list[str] = []
        caption_ends = [0]
        all_boxes, region_captions, all_labels, box_ends = [], [], [], [0]
        for number, record in zip(numbers, data.records(numbers), strict=True):
            image, file = record.image, record.image["file_name"]
            if min(image["width"], image["height"]) < min_side:
                self.problems[f"image side below {min_side} pixels"].append(file)
                continue
            if texts and not record.captions:
                self.problems["image without caption"].append(file)
                continue
            usable = []
            if regions is not None:
                usable = list(
                    regions.usable(record, categories, self.problems, captioned=captioned)
                )
                # What an image is in the batch for: its regions, its caption or its views.
                if not (texts or images_alone or usable):
                    continue
            kept.append(number)
            sizes.append((image["width"], image["height"]))
            captions.extend(record.captions)
            caption_ends.append(len(captions))
            for box, caption, label in usable:
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
        left_out = [f"{len(found)} x {reason}" for reason, found in self.problems.items()]
        why = f" ({', '.join(left_out)})" if left_out else ""
        if not kept:
            raise ValueError(f"{source.where}: no usable image is left of {len(numbers)}{why}")
        if regions is not None and not all_boxes:
            raise ValueError(f"{source.where}: no usable box is left in {len(kept)} images{why}")
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
