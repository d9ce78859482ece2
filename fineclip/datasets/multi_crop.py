"""Several random views of one image: large global ones and small local ones."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fineclip.checks import integer_from, list_of, real
from fineclip.datasets.decoding import DecodedImage
from fineclip.datasets.resampling import stack_images
from fineclip.datasets.transforms import ImageTransform

_ATTEMPTS = 10


class View(NamedTuple):
    """A part of an image that becomes a view.

    Attributes:
        box: xyxy in pixels of the image.
        flip: Whether it is flipped left to right.
    """

    box: tuple[float, float, float, float]
    flip: bool


ViewPlan = tuple[list[View], list[View]]
"""The global and the local views of an image."""


class MultiCrop:
    """DINO's multi-crop (Caron et al., ICCV 2021, Sec. 3.2), as SILC uses it.

    Each view is a random part of the image, of an area drawn from the range of its kind and an
    aspect ratio between 3/4 and 4/3, resized to a square and flipped left to right half of the
    time. Colours stay: captions name them.

    Args:
        global_size: Side of global views in pixels.
        local_size: Side of local views in pixels.
        num_global: Number of global views.
        num_local: Number of local views.
        global_scale: Range of a global view's share of the image area.
        local_scale: Range of a local view's share of the image area.
        flip: Probability of a flip.
        interpolation: ``"bilinear"`` or ``"bicubic"``.

    Raises:
        ValueError: For a number, size, range or probability that makes no sense.
    """

    def __init__(
        self,
        *,
        global_size: int,
        local_size: int,
        num_global: int = 2,
        num_local: int = 6,
        global_scale: tuple[float, float] = (0.4, 1.0),
        local_scale: tuple[float, float] = (0.05, 0.4),
        flip: float = 0.5,
        interpolation: str = "bicubic",
    ) -> None:
        for name, number in (("num_global", num_global), ("num_local", num_local)):
            integer_from(1).require(number, name)
        for name, scale in (("global_scale", global_scale), ("local_scale", local_scale)):
            list_of(real(0, 1), 2).require(scale, name)
            if not 0 < scale[0] <= scale[1] <= 1:
                raise ValueError(f"{name} must be (low, high) with 0 < low <= high <= 1: {scale}")
        real(0, 1).require(flip, "flip")
        self.num_global, self.num_local = num_global, num_local
        # A config may give lists.
        self.global_scale = (global_scale[0], global_scale[1])
        self.local_scale = (local_scale[0], local_scale[1])
        self.flip = flip
        self.global_transform = ImageTransform(global_size, "squash", interpolation)
        self.local_transform = ImageTransform(local_size, "squash", interpolation)

    def __call__(self, image: Image.Image, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Draws the views of one RGB image and cuts them out.

        Returns:
            (num_global, 3, global_size, global_size) and (num_local, 3, local_size, local_size)
            uint8.
        """
        return self.cut(image, self.draw(*image.size, rng))

    def draw(self, width: int, height: int, rng: np.random.Generator) -> ViewPlan:
        """Draws the views of an image, which need not be decoded for it.

        Args:
            width: Image width in pixels.
            height: Image height in pixels.
            rng: Source of the draws.
        """

        def views(number: int, scale: tuple[float, float]) -> list[View]:
            return [
                View(random_part(width, height, scale, rng), bool(rng.random() < self.flip))
                for _ in range(number)
            ]

        wide = views(self.num_global, self.global_scale)
        return wide, views(self.num_local, self.local_scale)

    def cut(self, image: Image.Image | DecodedImage, plan: ViewPlan) -> tuple[Tensor, Tensor]:
        """Cuts the views that :meth:`draw` has drawn out of the image; shapes as for a call."""
        wide, narrow = (
            stack_images([_cut_view(image, view, transform) for view in views])
            for views, transform in zip(plan, self._transforms, strict=True)
        )
        return wide, narrow

    def shrinks(self, plan: ViewPlan) -> list[float]:
        """By which factor each view shrinks the image, see :meth:`ImageTransform.shrink`."""
        return [
            transform.shrink(view.box[2] - view.box[0], view.box[3] - view.box[1])
            for views, transform in zip(plan, self._transforms, strict=True)
            for view in views
        ]

    def none(self) -> tuple[Tensor, Tensor]:
        """The views of no image: (0, num, 3, size, size) each."""
        wide, narrow = (
            torch.zeros(0, number, 3, transform.size, transform.size, dtype=torch.uint8)
            for number, transform in zip(
                (self.num_global, self.num_local), self._transforms, strict=True
            )
        )
        return wide, narrow

    @property
    def _transforms(self) -> tuple[ImageTransform, ImageTransform]:
        return self.global_transform, self.local_transform


def _cut_view(image: Image.Image | DecodedImage, view: View, transform: ImageTransform) -> Tensor:
    pixels = transform(image, view.box)
    return pixels.flip(2) if view.flip else pixels


def random_part(
    width: int, height: int, scale: tuple[float, float], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A random box of an image: area, aspect ratio and place are drawn, in this order.

    A draw that does not fit into the image is repeated, ten times at most; then an edge that is
    too long is cut to the image.

    Args:
        width: Image width in pixels.
        height: Image height in pixels.
        scale: Range of the box's share of the image area.
        rng: Source of the draws.

    Returns:
        xyxy in pixels, fractions included, inside the image.
    """
    for _ in range(_ATTEMPTS):
        area = rng.uniform(*scale) * width * height
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if w <= width and h <= height:
            break
    w, h = min(w, width), min(h, height)
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    # The sums may exceed the image by a rounding error, which Pillow refuses.
    return left, top, min(left + w, width), min(top + h, height)
