"""Where sliding windows lie, and how their answers become one map."""

import pytest
import torch

from segmentation.modeling import SlidingWindows


def test_the_published_windows():
    windows = SlidingWindows()
    assert windows.stride == 256
    assert windows.offsets() == [(0, 0), (0, 256), (256, 0), (256, 256)]


@pytest.mark.parametrize(
    ("canvas", "window", "overlap"),
    [((10, 14), 4, 0.3), ((9, 9), 9, 0.5), ((7, 30), 6, 0.0), ((11, 5), 5, 0.9)],
)
def test_every_pixel_is_covered(canvas, window, overlap):
    windows = SlidingWindows(canvas, window, overlap)
    covered = torch.zeros(canvas)
    for top, left in windows.offsets():
        assert top + window <= canvas[0]
        assert left + window <= canvas[1]
        covered[top : top + window, left : left + window] += 1
    assert covered.min() >= 1
    assert len(set(windows.offsets())) == len(windows.offsets())


def test_cut():
    windows = SlidingWindows((6, 8), 4, 0.5)
    image = torch.arange(6 * 8 * 3, dtype=torch.float32).view(3, 6, 8)
    parts = windows.cut(image)
    assert parts.shape == (len(windows.offsets()) + 1, 3, 4, 4)
    for part, (top, left) in zip(parts, windows.offsets(), strict=False):
        assert torch.equal(part, image[:, top : top + 4, left : left + 4])


def test_merge_by_hand():
    """Two windows of 4 on a canvas of 4 x 6 overlap in two columns."""
    windows = SlidingWindows((4, 6), 4, 0.5)
    assert windows.offsets() == [(0, 0), (0, 2)]
    logits = [torch.full((1, 2, 2), p).logit() for p in (0.2, 0.6, 0.9)]
    merged = windows.combine(logits, (4, 6))[0]
    want = (torch.tensor([0.2, 0.2, 0.4, 0.4, 0.6, 0.6]) + 0.9) / 2
    torch.testing.assert_close(merged, want.expand(4, 6))


def test_settings_that_make_no_sense():
    with pytest.raises(ValueError, match="does not fit"):
        SlidingWindows((100, 300), 200)
    with pytest.raises(ValueError, match="overlap"):
        SlidingWindows(overlap=1.0)
