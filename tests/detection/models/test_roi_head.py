"""How the RoI head pools the dense CLIP map."""

from types import SimpleNamespace

import torch
from mmcv.ops import RoIAlign
from torchvision.ops import roi_align

from detection.models import FViTRoIHead
from detection.models.sparse_roi_align import SparseRoIAlign


def test_pooling_is_roi_align_at_the_stride_of_the_patch():
    """On a rectangular map, boxes of two images in pixels of the input, some beyond its edge."""
    clip_map = torch.randn(2, 5, 4, 9)
    rois = torch.tensor(
        [[0, 3.0, 2.0, 40.0, 50.0], [1, 0.0, 0.0, 126.0, 56.0], [1, 100.0, 30.0, 130.0, 31.0]]
    )
    expected = roi_align(clip_map, rois, 1, 1 / 14, sampling_ratio=-1, aligned=True)
    sparse = SparseRoIAlign(RoIAlign(1, 1 / 14, sampling_ratio=0))
    for pooling in (None, sparse):  # as built, and fused for inference
        head = SimpleNamespace(clip_pooling=pooling)
        found = FViTRoIHead.clip_features(head, clip_map, rois, (14, 14))
        torch.testing.assert_close(found, expected.flatten(1), atol=1e-5, rtol=1e-5)
