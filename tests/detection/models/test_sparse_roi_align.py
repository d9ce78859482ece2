"""RoIAlign as a sparse product equals mmcv's operator."""

import pytest
import torch
from mmcv.ops import RoIAlign

from detection.models.sparse_roi_align import SparseRoIAlign

EDGES = torch.tensor(
    [
        [0.0, 0.0, 0.0, 200.0, 120.0],  # everything
        [1.0, -30.0, -40.0, 25.0, 18.0],  # beyond the corner
        [0.0, 180.0, 100.0, 260.0, 190.0],
        [1.0, 500.0, 500.0, 600.0, 600.0],  # outside
        [0.0, 50.0, 50.0, 50.0, 50.0],  # nothing
        [1.0, 10.0, 60.0, 190.0, 63.0],  # thin
    ]
)


@pytest.mark.parametrize("sampling_ratio", [0, 1, 3])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("output_size", [(7, 7), (1, 1), (3, 5)])
def test_equals_mmcv(sampling_ratio, aligned, output_size):
    maps = torch.randn(2, 8, 30, 50)
    corners = torch.rand(300, 2) * torch.tensor([200.0, 120.0])
    sizes = torch.rand(300, 2) * 90
    images = torch.randint(2, (300, 1)).float()
    rois = torch.cat([EDGES, torch.cat([images, corners, corners + sizes], dim=1)])
    layer = RoIAlign(output_size, 0.25, sampling_ratio, aligned=aligned)
    expected = layer(maps, rois)
    found = SparseRoIAlign(layer)(maps, rois)
    # Places of samples are float32, up to 50: rounding them moves values of a noise map by 2e-5.
    torch.testing.assert_close(found, expected, atol=5e-5, rtol=0)


def test_mixed_precision_is_none_of_its_business():
    layer = SparseRoIAlign(RoIAlign(7, 0.25))
    maps = torch.randn(2, 8, 30, 50)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(maps, EDGES)
    torch.testing.assert_close(found, layer(maps, EDGES), atol=0, rtol=0)


def test_no_boxes():
    layer = SparseRoIAlign(RoIAlign(7, 0.25))
    assert layer(torch.randn(1, 8, 30, 50), torch.zeros(0, 5)).shape == (0, 8, 7, 7)


def test_maximum_is_no_sum():
    with pytest.raises(ValueError, match="pool_mode='max'"):
        SparseRoIAlign(RoIAlign(7, 0.25, pool_mode="max"))
