"""Regions of a sample that annotations describe, and what any kind of regions has to offer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from fineclip.checks import integer_from, one_of, real
from fineclip.datasets.region_source import ImageRecord
from fineclip.registry import DATA_PARTS

DrawBy = Literal["uniform", "area", "sqrt_area"]
"""What the probability of drawing a box is proportional to."""


class Region(NamedTuple):
    """A region that can be used.

    Attributes:
        box: xyxy in pixels of the image.
        caption: Its caption, empty if none is needed.
        label: Place of its category among the source's categories, -1 without one.
    """

    box: tuple[float, float, float, float]
    caption: str
    label: int


class Regions(Protocol):
    """Which regions an image has, and which of them a sample holds."""

    annotated: bool
    """Whether they are the boxes of the annotations; only those have captions and labels."""

    labels: bool
    """Whether samples hold the places of their categories."""

    crop_scale: float
    """Factor on width and height of a region for its crop."""

    def draw(
        self, boxes: Tensor, width: int, height: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draws the regions of one sample.

        Args:
            boxes: (n, 4) xyxy pixels, usable boxes of the image; none if not ``annotated``.
            width: Image width in pixels.
            height: Image height in pixels.
            rng: Source of the draw.

        Returns:
            (m, 4) float32 xyxy pixels, and (m,) int64 which of ``boxes`` they are.
        """


@DATA_PARTS.register_module()
class BoxRegions:
    """Boxes of the annotations.

    They are filtered before ``max_boxes`` are drawn; the reference release draws first and
    filters then, which wastes slots. A box that sticks out of its image is cut to it.

    Args:
        max_boxes: Boxes drawn per image and epoch.
        min_area: Smallest area of a box, as cut to the image, in square pixels.
        max_area: Largest such area.
        include_crowd: Keep boxes marked ``iscrowd``.
        category_caption: Template with one ``{}``, filled in with the category's name: captions
            of boxes where the source has none.
        labels: Samples hold ``region_labels``: the place of a box's category among the categories
            of the annotation file, -1 for boxes without one. The pretrainer's vocabulary has to
            list the same categories in the same order, as the file itself does.
        crop_scale: Factor on box width and height for the crop (CLIPSelf, sec. 3.2: 1.5).
        draw_by: Which boxes are drawn where there are more than ``max_boxes``. "uniform": each as
            likely. "area", "sqrt_area": one after another, each with a probability proportional
            to its area as cut to the image, or to the root of it, among those that are left.

    Raises:
        ValueError: ``category_caption`` is no such template, or a number makes no sense.
    """

    annotated = True

    def __init__(
        self,
        *,
        max_boxes: int = 20,
        min_area: float = 8 * 8,
        max_area: float = 1024 * 1024,
        include_crowd: bool = False,
        category_caption: str = "a photo of a {}",
        labels: bool = False,
        crop_scale: float = 1.5,
        draw_by: DrawBy = "uniform",
    ) -> None:
        if category_caption.count("{}") != 1:
            raise ValueError(f"category_caption needs one {{}}, got {category_caption!r}")
        integer_from(1).require(max_boxes, "max_boxes")
        real(0).require(min_area, "min_area")
        if not min_area <= max_area:
            raise ValueError(f"max_area must be min_area ({min_area}) at least, got {max_area}")
        real(0, above=True).require(crop_scale, "crop_scale")
        self.max_boxes = max_boxes
        self.min_area, self.max_area = min_area, max_area
        self.include_crowd = include_crowd
        self.category_caption = category_caption
        self.labels = labels
        self.crop_scale = crop_scale
        one_of(*get_args(DrawBy)).require(draw_by, "draw_by")
        self.draw_by = draw_by

    def draw(
        self, boxes: Tensor, width: int, height: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """At most ``max_boxes`` of the boxes, in random order; see :class:`Regions`.

        Of one ``rng``, fewer boxes are among the more.
        """
        if self.draw_by == "uniform":
            order = rng.permutation(len(boxes))
        else:
            areas = (boxes[:, 2:] - boxes[:, :2]).double().prod(dim=1).numpy()
            weights = areas if self.draw_by == "area" else np.sqrt(areas)
            # Of exponential waiting times with these rates, the shortest is that of a box with a
            # probability proportional to its rate; the others wait on as if nothing had happened.
            # In float32 a box may have no area at all: it waits longest.
            order = (rng.exponential(size=len(boxes)) / np.maximum(weights, 1e-12)).argsort()
        chosen = torch.from_numpy(order[: self.max_boxes])
        return boxes[chosen], chosen

    def usable(
        self,
        record: ImageRecord,
        categories: Mapping[Any, tuple[int, str | None]],
        problems: dict[str, list[str]],
        *,
        captioned: bool,
    ) -> Iterator[Region]:
        """The boxes of an image that can be used.

        Args:
            record: What is known about the image.
            categories: Place and name of the source's categories by id.
            problems: Receives the other boxes, by reason.
            captioned: Whether a box needs a caption: its own if the record has captions of
                regions, else the template with the name of its category.
        """
        file = record.image["file_name"]
        for number, annotation in enumerate(record.annotations):
            if annotation.get("iscrowd") and not self.include_crowd:
                continue
            box = self._cut(annotation, record.image, problems)
            if box is None:
                continue
            label, name = categories.get(annotation.get("category_id"), (-1, None))
            caption: str | None = ""
            if captioned and record.region_captions is not None:
                caption = record.region_captions[number]
            elif captioned:
                caption = None if name is None else self.category_caption.format(name)
            if caption is None:
                where = f"{file} (annotation {annotation.get('id')})"
                problems["region without caption"].append(where)
                continue
            yield Region(box, caption, label)

    def _cut(
        self,
        annotation: Mapping[str, Any],
        image: Mapping[str, Any],
        problems: dict[str, list[str]],
    ) -> tuple[float, float, float, float] | None:
        """The box as xyxy pixels cut to the image, or None with the reason recorded."""
        file, box = image["file_name"], annotation["bbox"]
        where = f"{file} (annotation {annotation.get('id')}, box {box})"
        try:
            x, y, w, h = map(float, box)
        except (TypeError, ValueError):
            problems["box that is not four numbers"].append(where)
            return None
        x0, y0 = max(x, 0), max(y, 0)
        x1, y1 = min(x + w, image["width"]), min(y + h, image["height"])
        # Written so that NaN counts as outside as well.
        if not (x1 > x0 and y1 > y0):
            problems["box empty or outside its image"].append(where)
            return None
        if not self.min_area <= (x1 - x0) * (y1 - y0) <= self.max_area:
            problems["box area out of range"].append(where)
            return None
        return x0, y0, x1, y1
