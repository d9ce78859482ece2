"""Geometry of the two image views: resizing an image and mapping its boxes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

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
        x0, y0, x1, y1 = (value / image.reduction for value in box)
        part, size = (x0, y0, x1, y1), (width, height)
        if isinstance(image.pixels, Tensor):
            resized = resize_tensor(image.pixels, part, size, self.interpolation)
        else:
            resized = resize_pil(image.pixels, part, size, self.interpolation)
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
