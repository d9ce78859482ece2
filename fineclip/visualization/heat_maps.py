"""Maps of values over an image."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageOps

OPACITY_OF_HEAT = 0.6


def draw_heat(
    image: Image.Image, values: np.ndarray, low: float, high: float, side: int = 640
) -> Image.Image:
    """A grey image with values over it, from blue (``low`` and below) to red (``high`` and above).

    Args:
        image: RGB.
        values: (h, w) on any grid over the whole image; between its places they are interpolated.
        low: The value that is drawn blue.
        high: The value that is drawn red.
        side: Longer side of the result in pixels.

    Returns:
        An RGB image.
    """
    grey = ImageOps.contain(ImageOps.grayscale(image), (side, side))
    span = max(high - low, np.finfo(np.float32).tiny)
    levels = ((values.astype(np.float32) - low) / span).clip(0, 1)
    levels = cv2.resize(levels, grey.size, interpolation=cv2.INTER_LINEAR)
    colors = cv2.applyColorMap(np.rint(levels * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    heat = Image.fromarray(np.ascontiguousarray(colors[:, :, ::-1]))
    return Image.blend(grey.convert("RGB"), heat, OPACITY_OF_HEAT)
