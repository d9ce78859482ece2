"""Loading with Pillow, crop by crop, for comparison."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torchvision import transforms

from fineclip.datasets.decoding import DecodedImage
from fineclip.datasets.image_reader import Boxes, ImageReader

_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
_STD = (0.26862954, 0.26130258, 0.27577711)


class PillowPerBoxReader(ImageReader):
    """Pixels as the releases of CLIPSelf and FineCLIP make them.

    Pillow decodes the image; image and each box, cut out with ``Image.crop``, go through
    torchvision's ``Resize``, ``ToTensor`` and ``Normalize`` to float32. Draws, captions and tokens
    are left to the data set, whose costs the releases exceed.
    """

    def __init__(self, *, transform: Mapping[str, Any]) -> None:
        super().__init__(transform=transform)
        size = self.transform.size
        self._reference = transforms.Compose(
            [
                transforms.Resize(
                    (size, size), transforms.InterpolationMode(self.transform.interpolation)
                ),
                transforms.ToTensor(),
                transforms.Normalize(_MEAN, _STD),
            ]
        )

    def decode(self, content: bytes, file: str, **needs: Any) -> DecodedImage:
        """The whole image, whatever is needed of it."""
        with Image.open(io.BytesIO(content)) as image:
            return DecodedImage.of(image.convert("RGB"))

    def whole(self, image: DecodedImage | None) -> torch.Tensor:
        """(1, 3, H, W) float32."""
        return self._reference(image.pixels)[None]

    def crops(self, image: DecodedImage | None, boxes: Boxes) -> torch.Tensor:
        """(n, 3, H, W) float32."""
        return torch.stack([self._reference(image.pixels.crop(tuple(box))) for box in boxes])
