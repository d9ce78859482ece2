"""Loading with Pillow, crop by crop, for comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torchvision import transforms

from fineclip.datasets.decoding import DecodedImage
from fineclip.datasets.multi_crop import ViewPlan
from fineclip.datasets.region_text import RegionTextDataset
from fineclip.datasets.region_text_batch import RegionTextBatch

_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
_STD = (0.26862954, 0.26130258, 0.27577711)


class PillowPerBoxDataset(RegionTextDataset):
    """The same samples, pixels as the releases of CLIPSelf and FineCLIP make them.

    Pillow decodes the image; image and each box, cut out with ``Image.crop``, go through
    torchvision's ``Resize``, ``ToTensor`` and ``Normalize`` to float32. Draws, captions and tokens
    are left to the base class, whose costs the releases exceed.
    """

    def _decode(
        self, index: int, crop_boxes: Sequence[Sequence[float]], plan: ViewPlan | None
    ) -> DecodedImage:
        with Image.open(self.source.file(int(self._index.numbers[index]))) as image:
            return DecodedImage.of(image.convert("RGB"))

    def _add_pixels(
        self,
        sample: RegionTextBatch,
        image: DecodedImage | None,
        crop_boxes: Sequence[Sequence[float]],
        plan: ViewPlan | None,
    ) -> None:
        pixels = image.pixels
        sample["images"] = self._reference(pixels)[None]
        if "crops" in self.fields:
            crops = [self._reference(pixels.crop(tuple(box))) for box in crop_boxes]
            sample["crops"] = torch.stack(crops)

    @property
    def _reference(self) -> Callable[[Image.Image], torch.Tensor]:
        if not hasattr(self, "_compose"):
            size = self.transform.size
            mode = transforms.InterpolationMode(self.transform.interpolation)
            self._compose = transforms.Compose(
                [
                    transforms.Resize((size, size), mode),
                    transforms.ToTensor(),
                    transforms.Normalize(_MEAN, _STD),
                ]
            )
        return self._compose
