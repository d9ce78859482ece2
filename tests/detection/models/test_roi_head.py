"""How the RoI head pools the dense CLIP map, and what it learns masks from."""

from types import SimpleNamespace

import numpy as np
import torch
from mmcv.ops import RoIAlign
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData
from torchvision.ops import roi_align

from detection.models import FViTRoIHead
from detection.models.roi_head import with_masks_alone
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


def test_boxes_without_a_mask_give_no_mask_target():
    """Of three positives, one was assigned to the second instance, whose mask is empty."""
    masks = np.zeros((2, 8, 8), dtype=np.uint8)
    masks[0, 2:5, 2:5] = 1
    instances = InstanceData(masks=BitmapMasks(masks, 8, 8))
    sampled = SimpleNamespace(
        pos_priors=torch.arange(12.0).reshape(3, 4),
        pos_assigned_gt_inds=torch.tensor([0, 1, 0]),
        pos_gt_labels=torch.tensor([5, 6, 7]),
    )
    found = with_masks_alone(sampled, instances)
    assert found.pos_gt_labels.tolist() == [5, 7]
    assert found.pos_assigned_gt_inds.tolist() == [0, 0]
    assert found.pos_priors.tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert len(sampled.pos_priors) == 3  # which the box head still uses
    masks[1, 0, 0] = 1
    assert with_masks_alone(sampled, instances) is sampled


def test_the_mask_loss_looks_at_masks_alone(monkeypatch):
    """An empty mask as a target would teach that the object is not there."""
    seen = []

    def mask_loss(self, x, results, *_):
        seen.extend(results)
        return {"loss_mask": {"loss_mask": torch.tensor(2.0)}}

    monkeypatch.setattr(StandardRoIHead, "mask_loss", mask_loss)
    sampled = SimpleNamespace(
        pos_priors=torch.zeros(1, 4),
        pos_assigned_gt_inds=torch.tensor([0]),
        pos_gt_labels=torch.tensor([3]),
    )
    instances = InstanceData(masks=BitmapMasks(np.zeros((1, 8, 8), dtype=np.uint8), 8, 8))
    head = FViTRoIHead.__new__(FViTRoIHead)
    head.mask_loss((), [sampled], None, [instances])
    assert len(seen[0].pos_priors) == 0
