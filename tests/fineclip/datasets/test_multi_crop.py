import numpy as np
import pytest
import torch
from PIL import Image

from fineclip.datasets.multi_crop import MultiCrop, random_part


def picture(width=64, height=48):
    """Red grows to the right, green downwards."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([4 * x, 5 * y, np.zeros_like(x)], axis=2).astype(np.uint8)
    return Image.fromarray(pixels)


def test_views_have_their_number_and_size():
    views = MultiCrop(global_size=24, local_size=10)
    wide, narrow = views(picture(), np.random.default_rng(0))
    assert wide.shape == (2, 3, 24, 24)
    assert narrow.shape == (6, 3, 10, 10)
    assert wide.dtype == narrow.dtype == torch.uint8
    again = views(picture(), np.random.default_rng(0))
    assert torch.equal(again[0], wide)
    assert torch.equal(again[1], narrow)
    assert not torch.equal(narrow[0], narrow[1])


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_flips_are_left_to_right(flip):
    views = MultiCrop(global_size=16, local_size=16, flip=flip)
    for view in torch.cat(views(picture(), np.random.default_rng(1))).float():
        to_the_right = view[0, :, -1].mean() - view[0, :, 0].mean()
        assert to_the_right < 0 if flip else to_the_right > 0
        assert view[1, -1].mean() > view[1, 0].mean()


def test_parts_have_the_area_and_shape_that_is_drawn():
    rng = np.random.default_rng(0)
    shares, ratios = [], []
    for _ in range(300):
        x0, y0, x1, y1 = random_part(64, 48, (0.05, 0.4), rng)
        assert 0 <= x0 < x1 <= 64
        assert 0 <= y0 < y1 <= 48
        shares.append((x1 - x0) * (y1 - y0) / (64 * 48))
        ratios.append((x1 - x0) / (y1 - y0))
    assert 0.05 - 1e-9 <= min(shares) < 0.08
    assert 0.37 < max(shares) <= 0.4 + 1e-9
    assert 3 / 4 - 1e-9 <= min(ratios) < 0.8
    assert 1.25 < max(ratios) <= 4 / 3 + 1e-9


def test_a_part_that_never_fits_is_cut_to_the_image():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x0, y0, x1, y1 = random_part(200, 10, (1.0, 1.0), rng)
        assert (y0, y1) == (0, 10)
        assert 0 <= x0 < x1 <= 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_global": 0}, "num_global: expected an integer from 1 on, got 0"),
        ({"local_scale": (0.4, 0.2)}, "local_scale must be"),
        (
            {"global_scale": (0.4, 1.2)},
            "global_scale: expected a list of 2, each a number",
        ),
        ({"flip": 2}, "flip: expected a number from 0 to 1, got 2"),
        ({"local_size": 0}, "size: expected an integer from 1 on"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        MultiCrop(**{"global_size": 16, "local_size": 8, **change})
