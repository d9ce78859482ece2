"""Geometry of the two image views: resizing an image and mapping its boxes with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fineclip.checks import integer_from, one_of
from fineclip.datasets.decoding import DecodedImage
from fineclip.datasets.resampling import FILTERS, resize_pil, resize_tensor

Resize = Literal["squash", "pad", "pad_center"]


class ImageTransform:
    """Resizes an image to a square of ``size`` pixels and maps its boxes along.

    Args:
        size: Side of the output in pixels.
        resize: ``"squash"`` scales both axes to ``size`` (FineCLIP); ``"pad"`` scales the longer
            side and pads with black at the right and bottom (CLIPSelf's dense view);
            ``"pad_center"`` pads evenly on both sides (CLIPSelf's crops).
        interpolation: ``"bilinear"`` or ``"bicubic"``, both antialiased when shrinking.

    Raises:
        ValueError: Unknown ``resize`` or ``interpolation``, or a size below 1.
    """

    def __init__(
        self, size: int, resize: Resize = "squash", interpolation: str = "bilinear"
    ) -> None:
        one_of("squash", "pad", "pad_center").require(resize, "resize")
        one_of(*sorted(FILTERS)).require(interpolation, "interpolation")
        integer_from(1).require(size, "size")
        self.size = size
        self.resize = resize
        self.interpolation = interpolation

    def _placement(self, width: float, height: float) -> tuple[int, int, int, int]:
        """Where the resized image lies in the output: (left, top, width, height) in pixels."""
        if self.resize == "squash":
            return 0, 0, self.size, self.size
        scale = self.size / max(width, height)
        new_width = max(1, round(width * scale))
        new_height = max(1, round(height * scale))
        if self.resize == "pad":
            return 0, 0, new_width, new_height
        return (self.size - new_width) // 2, (self.size - new_height) // 2, new_width, new_height

    def placed_size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in pixels of the part of the output that an image of this size fills."""
        return self._placement(width, height)[2:]

    def shrink(self, width: float, height: float) -> float:
        """By which factor both sides of an image, or of a box of it, shrink at least.

        Args:
            width: Its width in pixels.
            height: Its height in pixels.

        Returns:
            Input pixels per output pixel, along the side with the fewer; below 1 if it grows.
        """
        _, _, new_width, new_height = self._placement(width, height)
        return min(width / new_width, height / new_height)

    def __call__(
        self, image: Image.Image | DecodedImage, box: Sequence[float] | None = None
    ) -> Tensor:
        """Resizes one RGB image, or a crop of it, by the library that holds its pixels.

        Pixels in a tensor are resized by torch, several times faster than by Pillow. By how
        much the two differ: :mod:`fineclip.datasets.resampling`.

        Args:
            image: RGB image of any size.
            box: xyxy in pixels of the upright image in full size, the part to take. Fractions are
                honoured, and the resampling filter reads the pixels just outside where it reaches
                over an edge.

        Returns:
            (3, size, size) uint8; of a tensor in channels-last memory.
        """
        image = DecodedImage.of(image)
        box = (0, 0, image.width, image.height) if box is None else box
        left, top, width, height = self._placement(box[2] - box[0], box[3] - box[1])
        resized = _resized(image, box, (width, height), self.interpolation)
        if (width, height) == (self.size, self.size):
            return resized
        canvas = resized.new_zeros(3, self.size, self.size)
        if isinstance(image.pixels, Tensor):
            canvas = resized.new_zeros(self.size, self.size, 3).permute(2, 0, 1)
        canvas[:, top : top + height, left : left + width] = resized
        return canvas

    def none(self) -> Tensor:
        """The outputs of no image: (0, 3, size, size) uint8."""
        return torch.zeros(0, 3, self.size, self.size, dtype=torch.uint8)

    def map_mask(self, mask: np.ndarray, grid: tuple[int, int]) -> Tensor:
        """Maps a mask of the original image to cells of the output, exactly.

        Args:
            mask: (H, W) bool, of the original image.
            grid: (h, w) cells that the output is divided into.

        Returns:
            (h, w) float32, the share of each cell's area that the mask covers.
        """
        height, width = mask.shape
        left, top, new_width, new_height = self._placement(width, height)
        rows = _overlaps(grid[0], self.size, height, top, new_height)  # (h, H)
        columns = _overlaps(grid[1], self.size, width, left, new_width)  # (w, W)
        return torch.from_numpy(rows @ mask.astype(np.float32) @ columns.T)

    def map_boxes(self, boxes: Tensor, width: int, height: int) -> Tensor:
        """Maps boxes of the original image to the output.

        Args:
            boxes: (n, 4) xyxy in pixels of the original image.
            width: Width of the original image in pixels.
            height: Height of the original image in pixels.

        Returns:
            (n, 4) float32 xyxy, normalised to [0, 1] of the output (padding included).
        """
        left, top, new_width, new_height = self._placement(width, height)
        scale = boxes.new_tensor([new_width / width, new_height / height] * 2, dtype=torch.float32)
        offset = boxes.new_tensor([left, top] * 2, dtype=torch.float32)
        return (boxes.float() * scale + offset) / self.size


def _overlaps(cells: int, side: int, pixels: int, start: int, length: int) -> np.ndarray:
    """Share of each cell, of ``side`` in all, that lies in each pixel: (cells, pixels) float32."""
    cell = np.linspace(0, side, cells + 1)
    pixel = np.linspace(start, start + length, pixels + 1)
    first = np.maximum(cell[:-1, None], pixel[:-1])
    last = np.minimum(cell[1:, None], pixel[1:])
    return ((last - first).clip(min=0) * (cells / side)).astype(np.float32)


class AspectTransform:
    """Resizes parts of an image to near their own aspect ratio, for no more patches than a square.

    Of a few shapes, seven where the square has room for them, each part gets the one whose aspect
    ratio is nearest to its own. Parts of one shape make one tensor, so attention needs no mask.

    Args:
        size: Side in pixels of the square whose number of patches no shape exceeds.
        patch: Side of a patch in pixels, which all sides are multiples of.
        interpolation: As in :class:`ImageTransform`.

    Raises:
        ValueError: Unknown ``interpolation``, or ``size`` is no multiple of ``patch``.
    """

    def __init__(self, size: int, patch: int, interpolation: str = "bilinear") -> None:
        one_of(*sorted(FILTERS)).require(interpolation, "interpolation")
        integer_from(1).require(patch, "patch")
        integer_from(1).require(size, "size")
        if size % patch:
            raise ValueError(f"size of crops is {size}, no multiple of the patch of {patch} pixels")
        self.size = size
        self.interpolation = interpolation
        self.shapes = [
            (rows * patch, columns * patch) for rows, columns in aspect_grids(size // patch)
        ]

    def shape(self, width: float, height: float) -> tuple[int, int]:
        """(h, w) in pixels of what becomes of a part of this width and height."""
        ratio = math.log(width / height)
        return min(self.shapes, key=lambda shape: abs(math.log(shape[1] / shape[0]) - ratio))

    def shrink(self, width: float, height: float) -> float:
        """As :meth:`ImageTransform.shrink`."""
        new_height, new_width = self.shape(width, height)
        return min(width / new_width, height / new_height)

    def __call__(self, image: DecodedImage, box: Sequence[float]) -> Tensor:
        """A part of an image, as :class:`ImageTransform` makes it, in its :meth:`shape`."""
        height, width = self.shape(box[2] - box[0], box[3] - box[1])
        return _resized(image, box, (width, height), self.interpolation)


def aspect_grids(side: int) -> list[tuple[int, int]]:
    """Grids of up to ``side`` x ``side`` patches whose aspect ratios are some 1.5 times apart.

    Args:
        side: Patches along a side of the square.

    Returns:
        (rows, columns), those with most patches first; 7 at most, from about 1 : 3 to 3 : 1.
    """
    grids = set()
    for ratio in (1.0, 1.5, 1.5**2, 1.5**3):
        short = max(1, round(side / math.sqrt(ratio)))
        long = side * side // short
        grids |= {(short, long), (long, short)}
    return sorted(grids, key=lambda grid: (-grid[0] * grid[1], grid))


def _resized(
    image: DecodedImage, box: Sequence[float], size: tuple[int, int], interpolation: str
) -> Tensor:
    """A box, in pixels of the image in full size, resized to (width, height)."""
    x0, y0, x1, y1 = (value / image.reduction for value in box)
    if isinstance(image.pixels, Tensor):
        return resize_tensor(image.pixels, (x0, y0, x1, y1), size, interpolation)
    return resize_pil(image.pixels, (x0, y0, x1, y1), size, interpolation)


def as_transform(transform: ImageTransform | Mapping[str, Any]) -> ImageTransform:
    """Builds a transform from its arguments; an :class:`ImageTransform` is returned as it is.

    Raises:
        TypeError: Neither, or an argument that :class:`ImageTransform` does not have.
        ValueError: A value that :class:`ImageTransform` refuses.
    """
    if isinstance(transform, Mapping):
        return ImageTransform(**transform)
    if not isinstance(transform, ImageTransform):
        raise TypeError(
            "transform must be an ImageTransform or a dict of its arguments such as "
            f"dict(size=224, resize='squash'), got {transform!r}"
        )
    return transform


def enlarge_boxes(boxes: Tensor, factor: float, width: int, height: int) -> Tensor:
    """Enlarges boxes about their centres and clips them to the image.

    Args:
        boxes: (n, 4) xyxy in pixels.
        factor: Factor on width and height (1.5 in CLIPSelf and FineCLIP).
        width: Image width in pixels.
        height: Image height in pixels.

    Returns:
        (n, 4) float32 xyxy in pixels, inside the image.
    """
    boxes = boxes.float()
    center = (boxes[:, :2] + boxes[:, 2:]) / 2  # (n, 2)
    half = (boxes[:, 2:] - boxes[:, :2]) * (factor / 2)
    enlarged = torch.cat([center - half, center + half], dim=1)
    return enlarged.clamp(min=0).minimum(enlarged.new_tensor([width, height] * 2))
