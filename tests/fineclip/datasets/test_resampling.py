"""torch's resizing against Pillow's, on pictures with the spectrum of photographs."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from fineclip.datasets.decoding import decode_image
from fineclip.datasets.resampling import resize_pil, resize_tensor
from fineclip.datasets.transforms import ImageTransform


def photograph(width, height, seed, falloff=1.0):
    """Noise whose amplitude falls with its frequency, as in photographs, as a JPEG file."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(width), np.fft.fftfreq(height)))
    amplitude = np.maximum(frequency, 1 / width) ** -falloff
    spectrum = amplitude[..., None] * np.fft.fft2(rng.normal(size=(height, width, 3)), axes=(0, 1))
    pixels = np.fft.ifft2(spectrum, axes=(0, 1)).real
    pixels = 128 + 60 * (pixels - pixels.mean()) / pixels.std()
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, format="JPEG", quality=90)
    return file.getvalue()


def boxes(width, height, number, rng):
    """xyxy in pixels with fractions; a third of them touch edges of the image."""
    corners = rng.uniform(-0.3, 1.3, (number, 2, 2)).clip(0, 1) * (width, height)
    low, high = corners.min(1), corners.max(1)
    keep = (high - low).min(1) >= 8
    return np.concatenate([low, high], 1)[keep].tolist()


@pytest.fixture(scope="module")
def pairs():
    """The same images for Pillow and for torch, with boxes."""
    rng = np.random.default_rng(0)
    found = []
    for seed, size in enumerate([(320, 240), (213, 320), (300, 300)]):
        data = photograph(*size, seed)
        pil, tensor = decode_image(data, "x"), decode_image(data, "x", backend="tensor")
        found.append((pil, tensor, boxes(*size, 60, rng)))
    return found


def difference(a, b):
    return (a.int() - b.int()).abs().float()


@pytest.mark.parametrize(("interpolation", "most"), [("bilinear", 2), ("bicubic", 6)])
def test_whole_images_agree(pairs, interpolation, most):
    for size in (32, 100, 224, 336):
        transform = ImageTransform(size, interpolation=interpolation)
        for pil, tensor, _ in pairs:
            error = difference(transform(pil), transform(tensor))
            assert error.max() <= most
            assert error.mean() < 0.3


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_crops_agree_to_a_fraction_of_a_grey_level(pairs, interpolation):
    """Pictures as sharp as these differ twice as much as the photographs in the module's head."""
    transform = ImageTransform(224, interpolation=interpolation)
    means = []
    for pil, tensor, crops in pairs:
        means += [difference(transform(pil, b), transform(tensor, b)).mean() for b in crops]
    assert len(means) > 50
    assert np.mean(means) < 0.5
    assert max(means) < 7
    # Cut at whole pixels they would differ much more: a shift of a fraction is what is matched.
    pil, tensor, crops = pairs[0]
    rounded = [
        difference(transform(pil, b), transform(tensor, [round(v) for v in b])).mean()
        for b in crops
    ]
    assert np.mean(rounded) > 6 * np.mean(means)


def test_displacement_stays_below_half_a_pixel():
    """Ramps of four grey levels per pixel show where in the input each output pixel lies."""
    ramp = np.broadcast_to(4 * np.arange(64, dtype=np.uint8), (64, 64))
    pixels = np.stack([ramp, ramp.T, ramp], axis=-1)
    image, tensor = Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1)
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(300):
        x, y = rng.uniform(0, 32, 2)
        w, h = rng.uniform(4, 32, 2)
        size = tuple(int(v) for v in rng.integers(4, 64, 2))
        box = (x, y, x + w, y + h)
        expected = resize_pil(image, box, size, "bilinear")
        errors.append(difference(resize_tensor(tensor, box, size, "bilinear"), expected))
    assert max(error.max() for error in errors) <= 4 * 0.5 + 1  # and one for rounding
    assert np.mean([error.mean() for error in errors]) < 0.5


def test_every_box_gives_the_size_asked_for():
    pixels = torch.zeros(3, 37, 53, dtype=torch.uint8)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        x, y = rng.uniform(0, 1, (2, 2)) * [[53], [37]]
        box = (x.min(), y.min(), x.max(), y.max())
        if rng.random() < 0.3:
            box = (box[0], box[1], 53.0, 37.0)
        if min(box[2] - box[0], box[3] - box[1]) < 0.01:
            continue
        size = tuple(int(v) for v in rng.integers(1, 70, 2))
        assert resize_tensor(pixels, box, size, "bilinear").shape == (3, size[1], size[0])


def test_pillow_is_called_as_the_release_calls_it():
    """On boxes of whole pixels, up to the pixels just outside that the filter reads here."""
    image = Image.open(io.BytesIO(photograph(120, 90, 5)))
    box = (10, 20, 90, 80)
    ours = resize_pil(image, box, (40, 40), "bilinear")
    release = torch.from_numpy(np.array(image.crop(box).resize((40, 40), 2))).permute(2, 0, 1)
    assert torch.equal(ours[:, 1:-1, 1:-1], release[:, 1:-1, 1:-1])


@pytest.mark.parametrize("resize", ["pad", "pad_center"])
def test_padding_is_the_same(pairs, resize):
    transform = ImageTransform(64, resize)
    pil, tensor, crops = pairs[1]
    for box in (None, crops[0], crops[1]):
        a, b = transform(pil, box), transform(tensor, box)
        assert torch.equal(a.sum(0) == 0, b.sum(0) == 0)
        assert difference(a, b).mean() < 2


@pytest.mark.parametrize("backend", ["pil", "tensor"])
def test_boxes_of_a_reduced_image_are_those_of_its_file(backend):
    """A shrunk crop is the same picture, whether decoding or resizing has shrunk it."""
    data = photograph(321, 241, 9, falloff=1.5)
    whole = decode_image(data, "x", backend=backend)
    half = decode_image(data, "x", backend=backend, reduction=2)
    transform = ImageTransform(32)
    for box in (None, (3.5, 20.25, 321, 241), (100, 7, 180, 90)):
        assert difference(transform(whole, box), transform(half, box)).mean() < 3
    shifted = difference(transform(whole, (100, 7, 180, 90)), transform(half, (104, 7, 184, 90)))
    assert shifted.mean() > 5
