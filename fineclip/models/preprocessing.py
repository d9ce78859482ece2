"""From an image of Pillow's to the tensor that a model takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fineclip.images import upright_rgb


def image_to_tensor(
    image: Image.Image, size: tuple[int, int], mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Turns an image upright, resizes all of it and normalises its pixels.

    Args:
        image: Of any mode; as :mod:`fineclip.images` reads it, with its EXIF orientation.
        size: (height, width) in pixels of the result.
        mean: Channel means for RGB in [0, 1].
        std: Channel standard deviations for RGB in [0, 1].

    Returns:
        (3, height, width) float32.

    Raises:
        UnusableImageError: Its values cannot be turned into 8 bits.
    """
    rgb = upright_rgb(image, getattr(image, "filename", "") or "image")
    pixels = np.array(rgb.resize(size[::-1], Image.Resampling.BILINEAR))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255)
    channels = torch.tensor([*mean, *std]).view(2, 3, 1, 1)
    return tensor.sub_(channels[0]).div_(channels[1]).contiguous()


def size_of_aspect(
    width: int, height: int, size: tuple[int, int], patch: tuple[int, int]
) -> tuple[int, int]:
    """The input size that is nearest to an image's aspect ratio, for no more patches than another.

    Args:
        width: Of the upright image in pixels.
        height: Of the upright image in pixels.
        size: (height, width) in pixels whose number of patches is not exceeded.
        patch: (height, width) of a patch in pixels.

    Returns:
        (height, width) in pixels, multiples of the patch.
    """
    most = (size[0] // patch[0]) * (size[1] // patch[1])
    ratio = (width / patch[1]) / (height / patch[0])  # columns over rows
    upright = ratio < 1
    ratio = 1 / ratio if upright else ratio
    # The shorter side is rounded first: the longer can then come closer to the ratio.
    short = max(1, round(math.sqrt(most / ratio)))
    long = min(round(short * ratio), most // short)
    rows, columns = (long, short) if upright else (short, long)
    return rows * patch[0], columns * patch[1]
