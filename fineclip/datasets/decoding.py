"""Decoding an image once, for everything that is drawn from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from fineclip.images import (
    JPEG_FORMATS,
    check_size,
    opened_image,
    orientation_of,
    upright_rgb,
)

Backend = Literal["pil", "tensor"]
"""What holds decoded pixels, and so what resizes them: Pillow or torch."""

_REDUCTIONS = (8, 4, 2)  # what libjpeg can scale by for next to nothing


@dataclass(frozen=True)
class DecodedImage:
    """Pixels of an image file, upright.

    Attributes:
        pixels: RGB image, or (3, h, w) uint8 in channels-last memory.
        width: Width of the upright image in full size, in pixels.
        height: Height of the upright image in full size, in pixels.
        reduction: Factor by which decoding has shrunk both sides; h and w are height and width
            divided by it and rounded up, so that the last row or column may be a part of one.
    """

    pixels: Image.Image | Tensor
    width: int
    height: int
    reduction: int = 1

    @classmethod
    def of(cls, image: Image.Image | DecodedImage) -> DecodedImage:
        """Wraps an image of Pillow; a decoded image is returned as it is."""
        return image if isinstance(image, DecodedImage) else cls(image, *image.size)


def decode_image(
    data: bytes,
    file: Path | str,
    *,
    backend: Backend = "pil",
    size: tuple[int, int] | None = None,
    reduction: int = 1,
) -> DecodedImage:
    """Decodes one image completely, by the rules of :mod:`fineclip.images`.

    Args:
        data: Content of an image file.
        file: Its name, for messages.
        backend: "pil" for an image of Pillow, "tensor" for a tensor. Both decode to the same
            pixels: JPEG files through libjpeg-turbo, directly into the tensor where that is
            possible, all others through Pillow.
        size: Width and height in pixels that the upright image must have.
        reduction: 1, 2, 4 or 8: factor by which a JPEG file may be shrunk while it is decoded,
            from a part of its frequencies. Other formats are decoded as they are, and so are
            images to be turned upright whose sides it does not divide.

    Returns:
        The image; its ``reduction`` says what was done.

    Raises:
        UnusableImageError: Truncated, too large, no image, or of another size.
    """
    with opened_image(data, file) as image:
        is_jpeg = image.format in JPEG_FORMATS
        orientation = orientation_of(image)
        width, height = image.size
        if orientation >= 5:
            width, height = height, width
        if size is not None:
            check_size((width, height), size, file, orientation)
        if not is_jpeg or (orientation > 1 and (width % reduction or height % reduction)):
            # The last row and column may be a part of one; turned, they could be the first.
            reduction = 1
        elif reduction > 1:
            # Asked for a size, Pillow takes the largest reduction that does not go below it.
            image.draft(None, (image.width // reduction, image.height // reduction))
        if backend == "pil":
            return DecodedImage(upright_rgb(image, file), width, height, reduction)
        if is_jpeg and reduction == 1 and image.mode == "RGB" and orientation == 1:
            pixels = decode_jpeg(
                torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB
            )
        else:
            pixels = torch.from_numpy(np.array(upright_rgb(image, file))).permute(2, 0, 1)
        return DecodedImage(pixels, width, height, reduction)


def safe_reduction(shrinks: Iterable[float]) -> int:
    """The largest reduction that no output notices as a lack of pixels.

    Args:
        shrinks: By which factor each output shrinks the image it is drawn from, see
            :meth:`fineclip.datasets.transforms.ImageTransform.shrink`.

    Returns:
        The largest of 8, 4, 2 and 1 that is not above any of them.
    """
    smallest = min(shrinks, default=1.0)
    return next((factor for factor in _REDUCTIONS if factor <= smallest), 1)
