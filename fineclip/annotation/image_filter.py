"""Which images are used: decodable ones of a certain size and shape."""

from __future__ import annotations

from PIL import Image

from fineclip.annotation.records import InputImage, LeftOut, countable
from fineclip.annotation.settings import AnnotationSettings
from fineclip.images import (
    UnusableImageError,
    check_size,
    opened_image,
    orientation_of,
    upright_rgb,
)


def filtered_image(image: InputImage, settings: AnnotationSettings) -> Image.Image:
    """Decodes an image that can be used.

    Returns:
        Upright, RGB.

    Raises:
        LeftOut: It cannot be.
    """
    if image.content is None:
        raise LeftOut(image.refusal or "there is no image")
    limit = settings.max_unsafe
    if image.unsafe is not None and limit is not None and image.unsafe > limit:
        raise LeftOut("metadata say that it is unsafe")
    try:
        with opened_image(image.content, image.file_name) as opened:
            unfit = _unfit(*opened.size, settings)
            if unfit is None:
                rgb = upright_rgb(opened, image.file_name)
                if image.size is not None:
                    check_size(rgb.size, image.size, image.file_name, orientation_of(opened))
                return rgb
    except UnusableImageError as error:
        raise LeftOut(countable(f"image {error.reason}")) from None
    raise LeftOut(unfit)


def _unfit(width: int, height: int, settings: AnnotationSettings) -> str | None:
    """Why an image of this size is not used."""
    if width * height < settings.min_pixels:
        return "image has too few pixels"
    if max(width, height) > settings.max_aspect * min(width, height):
        return "image is too long"
    return None
