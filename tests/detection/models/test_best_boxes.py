"""Detections after NMS are mmdet's, though few candidates are looked at."""

import pytest
import torch
from mmdet.models.layers import multiclass_nms
from mmengine.config import ConfigDict

from detection.models import best_boxes as module
from detection.models.best_boxes import best_boxes

NMS = ConfigDict(type="nms", iou_threshold=0.5)


def candidates(rows, classes, per_class=False):
    """Boxes that crowd in few places, so that most of them are suppressed."""
    generator = torch.Generator().manual_seed(rows)
    centres = torch.rand(12, 2, generator=generator) * 500 + 60
    shape = (rows, classes if per_class else 1)
    at = centres[torch.randint(12, shape, generator=generator)]
    at = at + torch.randn(*at.shape, generator=generator) * 8
    sides = torch.rand(*at.shape, generator=generator) * 60 + 20
    boxes = torch.cat([at - sides / 2, at + sides / 2], dim=-1).clamp(0, 640)
    scores = torch.randn(rows, classes + 1, generator=generator).mul(2).softmax(dim=1)
    return boxes.flatten(1), scores


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(
    ("rows", "classes", "threshold", "number"),
    [
        (40, 6, 0.01, 100),  # fewer than wanted
        (300, 20, 0.001, 30),
        (200, 80, 1e-4, 400),  # more candidates than mmcv takes at once; several looks
        (50, 5, 2.0, 10),  # none
    ],
)
def test_equal_to_mmdet(per_class, rows, classes, threshold, number):
    boxes, scores = candidates(rows, classes, per_class)
    expected, labels = multiclass_nms(boxes, scores, threshold, NMS, number)
    found = best_boxes(boxes, scores, threshold=threshold, nms_cfg=NMS, number=number)
    assert torch.equal(found[0], expected[:, :4])
    assert torch.equal(found[1], expected[:, 4])
    assert torch.equal(found[2], labels)
    assert bool(len(labels)) == (threshold < 1)


def test_no_box():
    boxes, scores, labels = best_boxes(
        torch.zeros(0, 4), torch.zeros(0, 6), threshold=0.1, nms_cfg=NMS, number=5
    )
    assert boxes.shape == (0, 4) and scores.shape == labels.shape == (0,)


def test_few_are_looked_at(monkeypatch):
    sizes = []
    monkeypatch.setattr(module, "nms", lambda b, s, t: sizes.append(len(b)) or (b, torch.arange(9)))
    boxes, scores = candidates(300, 50)
    best_boxes(boxes, scores, threshold=1e-4, nms_cfg=NMS, number=5)
    assert sizes == [40]


@pytest.mark.parametrize(
    "settings", [{"type": "soft_nms", "iou_threshold": 0.5}, {**NMS, "class_agnostic": True}]
)
def test_other_ways_are_left_to_mmdet(settings):
    boxes, scores = candidates(60, 7)
    expected, labels = multiclass_nms(boxes, scores, 0.01, ConfigDict(settings), 20)
    found = best_boxes(boxes, scores, threshold=0.01, nms_cfg=ConfigDict(settings), number=20)
    assert torch.equal(found[0], expected[:, :4])
    assert torch.equal(found[2], labels)
