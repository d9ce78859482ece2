"""Detectors of mmdet as proposers of the data engine; F-ViT's is in tests/tools/test_detect.py."""

import numpy as np
import pytest
import torch
from PIL import Image

mmdet = pytest.importorskip("mmdet")

from fineclip.annotation.interfaces import create_proposer  # noqa: E402

CONFIG = """
model = dict(
    type="{kind}",
    data_preprocessor=dict(
        type="DetDataPreprocessor", mean=[127.0] * 3, std=[60.0] * 3, bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type="ResNet", depth=18, base_channels=4, out_indices=(0, 1, 2, 3),
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet18"),
    ),
    neck=dict(type="FPN", in_channels=[4, 8, 16, 32], out_channels=8, num_outs=5),
    {head}
    train_cfg=None,
    test_cfg={test},
)
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(64, 64), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
"""
ANCHORS = (
    "in_channels=8, feat_channels=8, anchor_generator=dict(type='AnchorGenerator', scales=[8], "
    "ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]), "
    "bbox_coder=dict(type='DeltaXYWHBBoxCoder')"
)
RPN = f"rpn_head=dict(type='RPNHead', {ANCHORS}),"
TEST = "dict(nms_pre=50, max_per_img=20, nms=dict(type='nms', iou_threshold=0.7))"
RETINA = (
    f"bbox_head=dict(type='RetinaHead', num_classes=2, stacked_convs=1, {ANCHORS}, "
    "loss_cls=dict(type='FocalLoss', use_sigmoid=True)),"
)
RPN_TEST = f"dict(rpn={TEST})"
RETINA_TEST = f"{TEST[:-1]}, score_thr=0.0, min_bbox_size=0)"


def write(folder, kind, head, test):
    config = folder / f"{kind}.py"
    config.write_text(CONFIG.format(kind=kind, head=head, test=test))
    from mmdet.models import RPN  # noqa: F401 (registers)
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    built = Config.fromfile(config).model
    del built.backbone["init_cfg"]
    torch.manual_seed(0)
    state = MODELS.build(built).state_dict()
    weights = folder / f"{kind}.pth"
    meta = {"dataset_meta": {"classes": ("cat", "dog")}}
    torch.save({"state_dict": state, "meta": meta}, weights)
    return config, weights


@pytest.mark.parametrize(
    ("kind", "head", "test", "names"),
    [("RPN", RPN, RPN_TEST, ()), ("RetinaNet", RETINA, RETINA_TEST, ("cat", "dog"))],
)
def test_detectors_and_rpns(tmp_path, kind, head, test, names):
    config, weights = write(tmp_path, kind, head, test)
    proposer = create_proposer(f"mmdet:{config},{weights}", score_threshold=0.0)
    assert proposer.categories == names
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    images = [Image.fromarray(pixels), Image.fromarray(pixels[:30, :30]), Image.new("L", (3, 3))]
    together = proposer.propose(images, ["", "", ""], [])
    for image, found in zip(images, together, strict=True):
        (alone,) = proposer.propose([image], [""], [])
        np.testing.assert_allclose(alone.boxes, found.boxes, atol=1e-3)
        assert set(found.names) <= (set(names) or {""})
        assert (found.boxes[:, 2:] <= image.size).all()
    assert len(together[0].boxes)
    assert proposer.propose([], [], []) == []


def test_what_is_not_right_is_said(tmp_path):
    config, weights = write(tmp_path, "RPN", RPN, RPN_TEST)
    with pytest.raises(ValueError, match="expected mmdet:CONFIG,WEIGHTS"):
        create_proposer(f"mmdet:{config}")
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        create_proposer(f"mmdet:{config},{tmp_path}/none.pth")
    torch.save({"state_dict": {"backbone.conv1.weight": torch.zeros(3)}}, weights)
    with pytest.raises(ValueError, match=r"RPN\.pth"):
        create_proposer(f"mmdet:{config},{weights}")
