"""How an image is looked at, whole or through windows, and how the answers become one map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class WholeImage:
    """One image as the only input, padded on the right and at the bottom.

    The release crops the network's low resolution by the image's size in pixels, which stretches
    the padding into the result, or cuts content off; here the map is brought to the padded size
    first.

    Attributes:
        padded: (height, width) in pixels with the padding.
        inside: (height, width) of the image alone.
    """

    padded: tuple[int, int]
    inside: tuple[int, int]

    def combine(self, logits: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """One (T, *, *) map -> (T, height, width) probabilities, without the padding."""
        scores = logits[0][None].sigmoid()
        if self.padded != self.inside:
            scores = resize(scores, self.padded)[..., : self.inside[0], : self.inside[1]]
        return resize(scores, size)[0]


@dataclass(frozen=True)
class SlidingWindows:
    """Square windows over a resized image, and the whole image as one input more.

    Args:
        canvas: (height, width) in pixels every image is resized to, whatever its aspect.
        window: Side of a window in pixels.
        overlap: Share of a window that its neighbour covers as well.

    Raises:
        ValueError: A window larger than the canvas, or an overlap outside of [0, 1).
    """

    canvas: tuple[int, int] = (640, 640)
    window: int = 384
    overlap: float = 0.333

    def __post_init__(self) -> None:
        if not 0 < self.window <= min(self.canvas):
            raise ValueError(f"a window of {self.window} pixels does not fit into {self.canvas}")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap must be in [0, 1), got {self.overlap}")

    @property
    def stride(self) -> int:
        """Pixels between windows."""
        return max(1, int(self.window * (1 - self.overlap)))

    def offsets(self) -> list[tuple[int, int]]:
        """(top, left) in canvas pixels, row by row; the last of a line ends with the canvas."""

        def along(side: int) -> list[int]:
            last = side - self.window
            return [*range(0, last, self.stride), last]

        return [(top, left) for top in along(self.canvas[0]) for left in along(self.canvas[1])]

    def cut(self, image: Tensor) -> Tensor:
        """Makes the network's inputs.

        Args:
            image: (3, H, W) float pixels.

        Returns:
            (n + 1, 3, window, window): the windows in the order of :meth:`offsets`, then the whole
            image.
        """
        canvas = resize(image[None], self.canvas)
        side = self.window
        windows = [
            canvas[:, :, top : top + side, left : left + side] for top, left in self.offsets()
        ]
        return torch.cat([*windows, resize(image[None], (side, side))])

    def combine(self, logits: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Puts the answers together; per class, so that classes may come in pieces.

        Args:
            logits: n + 1 maps (T, *, *) of the inputs of :meth:`cut`.
            size: (height, width) of the result.

        Returns:
            (T, height, width) probabilities: windows averaged where they overlap, the mean of that
            and the whole image's answer, resized.
        """
        *windows, whole = logits
        side = self.window
        combined = whole.new_zeros(len(whole), *self.canvas)
        coverage = whole.new_zeros(self.canvas)
        for (top, left), answer in zip(self.offsets(), windows, strict=True):
            rows, columns = slice(top, top + side), slice(left, left + side)
            combined[:, rows, columns] += resize(answer[None], (side, side))[0].sigmoid()
            coverage[rows, columns] += 1
        combined /= coverage
        # At the window's size first, as every other input; then the probabilities grow.
        whole = resize(whole[None], (side, side)).sigmoid()
        combined += resize(whole, self.canvas)[0]
        return resize(combined[None] / 2, size)[0]


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, *, *) -> (B, C, height, width), bilinear."""
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
