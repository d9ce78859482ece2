"""What a model sees of an image whose pixels are to be labelled: the whole of it, or windows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from fineclip.datasets.resampling import resize_pil
from fineclip.datasets.transforms import ImageTransform


@dataclass(frozen=True)
class Views:
    """Where the inputs that were cut from one image lie.

    Args:
        side: Of the inputs in pixels.
        canvas: (height, width) in pixels of the resized image, padding included.
        inside: (height, width) in pixels of the canvas's upper left part that is image.
        offsets: (top, left) in pixels of each input on the canvas.
    """

    side: int
    canvas: tuple[int, int]
    inside: tuple[int, int]
    offsets: tuple[tuple[int, int], ...] = ((0, 0),)


ViewCutter = Callable[[Image.Image], tuple[Tensor, Views]]
"""From an image to the inputs (n, 3, S, S) uint8 that are made of it, and where they lie."""


class WholeView:
    """One input: the image, squashed or padded.

    Args:
        transform: Geometry of the input; "squash" or "pad".

    Raises:
        ValueError: The image would not lie in the upper left.
    """

    def __init__(self, transform: ImageTransform) -> None:
        if transform.resize == "pad_center":
            raise ValueError("views of an image are squashed or padded at the right and bottom")
        self.transform = transform

    def __call__(self, image: Image.Image) -> tuple[Tensor, Views]:
        """See :class:`ViewCutter`; n = 1."""
        width, height = self.transform.placed_size(*image.size)
        side = self.transform.size
        return self.transform(image)[None], Views(side, (side, side), (height, width))


class WindowViews:
    """Square windows over the image, which keeps its aspect; neighbours share half of their area.

    Args:
        short_side: Shorter side of the resized image in pixels; bilinear, antialiased.
        window: Side of a window in pixels.

    Raises:
        ValueError: A window that does not fit.
    """

    def __init__(self, short_side: int, window: int) -> None:
        if window > short_side:
            raise ValueError(
                f"windows of {window} pixels do not fit into images whose shorter side has "
                f"{short_side}: let the images be larger, or the windows smaller"
            )
        self.short_side, self.window = short_side, window

    def __call__(self, image: Image.Image) -> tuple[Tensor, Views]:
        """See :class:`ViewCutter`; windows row by row, the last of a line ends with the image."""
        scale = self.short_side / min(image.size)
        width, height = (max(self.window, round(side * scale)) for side in image.size)
        resized = resize_pil(image, (0, 0, *image.size), (width, height), "bilinear")
        lefts = self._starts(width)
        offsets = tuple((top, left) for top in self._starts(height) for left in lefts)
        side = self.window
        cut = torch.stack([resized[:, t : t + side, x : x + side] for t, x in offsets])
        return cut, Views(side, (height, width), (height, width), offsets)

    def _starts(self, side: int) -> list[int]:
        last = side - self.window
        return [*range(0, last, max(1, self.window // 2)), last]
