"""How the RoI head pools the dense CLIP map."""

import torch
from torchvision.ops import roi_align

from detection.models import FViTRoIHead


def test_pooling_is_roi_align_at_the_stride_of_the_patch():
    """On a rectangular map, boxes of two images in pixels of the input, some beyond its edge."""
    clip_map = torch.randn(2, 5, 4, 9)
    rois = torch.tensor(
        [[0, 3.0, 2.0, 40.0, 50.0], [1, 0.0, 0.0, 126.0, 56.0], [1, 100.0, 30.0, 130.0, 31.0]]
    )
    expected = roi_align(clip_map, rois, 1, 1 / 14, sampling_ratio=-1, aligned=True)
    torch.testing.assert_close(
        FViTRoIHead.clip_features(clip_map, rois, (14, 14)), expected.flatten(1)
    )
