"""From an image file to the pixels of a sample, decoded once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from torch import Tensor

from fineclip.datasets.decoding import Backend, DecodedImage, decode_image, safe_reduction
from fineclip.datasets.resampling import stack_images
from fineclip.datasets.shaped_crops import ShapedCrops
from fineclip.datasets.transforms import AspectTransform, ImageTransform, as_transform

Boxes = Sequence[Sequence[float]]


class ImageReader:
    """Decodes an image, and resizes it and its crops.

    Args:
        transform: Geometry of the image, an :class:`ImageTransform` or its arguments.
        crop_transform: Geometry of the crops, by default that of the image.
        crop_patch: Side of a patch in pixels: crops are not squeezed into the square of
            ``crop_transform`` but keep about their own aspect ratio, for no more patches
            (:class:`AspectTransform`). None: squares.
        backend: "pil" resizes with Pillow, as the release does. "tensor" decodes into tensors and
            resizes with torch, which loads over twice as many images per second (3.7 times as
            many as the release's way, tools/benchmark_loading.py); draws are the same, pixels
            differ by what :mod:`fineclip.datasets.resampling` says, and batches are in
            channels-last memory.
        reduced_decoding: Decode a JPEG file at 1/2, 1/4 or 1/8 of its size if everything drawn
            from it (image, crops, views) shrinks it by at least that much. The image view of
            COCO photographs then differs by 1.2 grey levels of 255 on average, single pixels by
            up to 38 (bilinear, 224 pixels).

    Raises:
        ValueError: There is no such backend, a transform is malformed, or crops of their own
            aspect ratio are to be padded.
    """

    def __init__(
        self,
        *,
        transform: ImageTransform | Mapping[str, Any],
        crop_transform: ImageTransform | Mapping[str, Any] | None = None,
        crop_patch: int | None = None,
        backend: Backend = "pil",
        reduced_decoding: bool = True,
    ) -> None:
        if backend not in get_args(Backend):
            raise ValueError(f"backend must be 'pil' or 'tensor', got {backend!r}")
        self.transform = as_transform(transform)
        square = as_transform(crop_transform or transform)
        self.crop_transform: ImageTransform | AspectTransform = square
        if crop_patch is not None:
            if square.resize != "squash":
                raise ValueError(
                    f"crop_patch={crop_patch} is for crops that are squashed, and crop_transform "
                    f"pads them: set its resize to 'squash', not {square.resize!r}"
                )
            self.crop_transform = AspectTransform(square.size, crop_patch, square.interpolation)
        self.backend = backend
        self.reduced_decoding = reduced_decoding

    def decode(
        self,
        content: bytes,
        file: str,
        *,
        size: tuple[int, int],
        crop_boxes: Boxes = (),
        shrinks: Iterable[float] = (),
    ) -> DecodedImage:
        """Decodes an image, at the size that all that is drawn from it needs.

        Args:
            content: The file.
            file: Its name, for messages.
            size: Width and height that it should have upright, in pixels.
            crop_boxes: xyxy pixels of the crops that will be cut.
            shrinks: By which factors anything else shrinks the image.

        Raises:
            UnusableImageError: It is no image, or of another size.
        """
        reduction = 1
        if self.reduced_decoding:
            found = [self.transform.shrink(*size), *shrinks]
            found += [self.crop_transform.shrink(b[2] - b[0], b[3] - b[1]) for b in crop_boxes]
            reduction = safe_reduction(found)
        return decode_image(content, file, backend=self.backend, size=size, reduction=reduction)

    def whole(self, image: DecodedImage | None) -> Tensor:
        """The image as (1, 3, H, W) uint8; (0, 3, H, W) for None."""
        return self.transform.none() if image is None else stack_images([self.transform(image)])

    def crops(self, image: DecodedImage | None, boxes: Boxes) -> Tensor | ShapedCrops:
        """Crops of the image at (n, 4) xyxy pixels, uint8; none for None.

        Returns:
            (n, 3, H, W), or with ``crop_patch`` crops of several shapes.
        """
        crops = [] if image is None else [self.crop_transform(image, box) for box in boxes]
        if isinstance(self.crop_transform, AspectTransform):
            return ShapedCrops.of(crops, self.crop_transform.shapes)
        return stack_images(crops) if crops else self.crop_transform.none()
