import io

import numpy as np
import pytest
import torch
from PIL import Image

from fineclip.datasets.decoding import decode_image, safe_reduction
from fineclip.images import UnusableImageError


def encoded(width=83, height=61, mode="RGB", **options):
    """A smooth colour picture with some noise, as a file."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([3 * x, 4 * y, 2 * (x + y)], axis=-1) % 256
    pixels = pixels + np.random.default_rng(0).integers(0, 9, pixels.shape)
    file = io.BytesIO()
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode)
    image.save(file, **{"format": "JPEG", **options})
    return file.getvalue()


def as_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


FILES = {
    "jpeg": encoded(quality=85),
    "jpeg 4:4:4": encoded(subsampling=0),
    "progressive": encoded(progressive=True),
    "grey": encoded(mode="L"),
    "cmyk": encoded(mode="CMYK"),
    "png": encoded(format="PNG"),
}


@pytest.mark.parametrize("reduction", [1, 2])
@pytest.mark.parametrize("kind", FILES)
def test_both_backends_decode_to_the_same_pixels(kind, reduction):
    pil = decode_image(FILES[kind], "x", reduction=reduction)
    tensor = decode_image(FILES[kind], "x", backend="tensor", reduction=reduction)
    assert torch.equal(tensor.pixels, as_tensor(pil.pixels))
    assert (pil.width, pil.height) == (tensor.width, tensor.height) == (83, 61)
    assert pil.reduction == tensor.reduction == (1 if kind == "png" else reduction)
    # What torch's fast operator reads.
    assert tensor.pixels[None].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("reduction", [2, 4, 8])
@pytest.mark.parametrize(("width", "height"), [(83, 61), (64, 64), (127, 8)])
def test_reduced_image_has_the_size_it_says(width, height, reduction):
    image = decode_image(encoded(width, height), "x", reduction=reduction)
    assert image.reduction == reduction
    assert image.pixels.size == (-(-width // reduction), -(-height // reduction))
    assert (image.width, image.height) == (width, height)


@pytest.mark.parametrize("backend", ["pil", "tensor"])
def test_damaged_files_are_named(backend):
    for data in (FILES["jpeg"][:900], FILES["png"][:900], b"nothing", b""):
        with pytest.raises(UnusableImageError, match=r"a\.jpg: cannot be decoded \(.+\)"):
            decode_image(data, "a.jpg", backend=backend)
    with pytest.raises(UnusableImageError, match="is 83 x 61 pixels, the annotations say 61 x 83"):
        decode_image(FILES["jpeg"], "a.jpg", backend=backend, size=(61, 83))


@pytest.mark.parametrize(
    ("shrinks", "expected"),
    [([2.0, 9.0], 2), ([1.99, 9.0], 1), ([3.9], 2), ([4.0], 4), ([100.0], 8), ([0.5], 1), ([], 1)],
)
def test_reduction_is_the_largest_that_every_output_allows(shrinks, expected):
    assert safe_reduction(shrinks) == expected


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("size", [(80, 48), (83, 61)])
def test_reduced_images_are_turned_upright(size, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    data = encoded(*size, exif=exif)
    whole = decode_image(data, "x")
    assert (whole.width, whole.height) == (size if orientation < 5 else size[::-1])
    small = decode_image(data, "x", reduction=2)
    assert small.reduction == (2 if size == (80, 48) else 1)
    assert torch.equal(
        decode_image(data, "x", backend="tensor", reduction=2).pixels, as_tensor(small.pixels)
    )
    shrunk = as_tensor(whole.pixels.resize(small.pixels.size, Image.Resampling.BOX)).float()
    # As close as without a turn, which is far from what a wrong one gives.
    assert (as_tensor(small.pixels).float() - shrunk).abs().mean() < 8
