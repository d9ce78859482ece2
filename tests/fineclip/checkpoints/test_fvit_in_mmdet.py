"""The converted detector's names are those of mmdet 3.x's own neck and heads."""

import pytest
import torch
from mmengine.registry import DefaultScope

from fineclip.checkpoints.conversion import convert_source
from fineclip.checkpoints.source import source_from

# Of F-ViT alone: mmdet's classifier is replaced by text embeddings and a temperature.
OWN = {"roi_head.bbox_head.all_embeddings", "roi_head.bbox_head.detect_temperature"}
NORM = {"type": "BN"}


@pytest.mark.parametrize("name", ["fvit_vitb16_ovcoco", "fvit_vitl14_ovlvis"])
def test_neck_and_heads(listing, name):
    pytest.importorskip("mmdet")
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=False)
    is_large, has_masks = "vitl14" in name, "ovlvis" in name
    width, embed_dim = (1024, 768) if is_large else (768, 512)
    heads = {
        "neck": {
            "type": "mmdet.FPN",
            "in_channels": [width] * 4,
            "out_channels": 256,
            "num_outs": 5,
            "norm_cfg": NORM,
        },
        "roi_head.bbox_head": {
            "type": "mmdet.ConvFCBBoxHead",
            "num_shared_convs": 4,
            "num_shared_fcs": 2,
            "num_cls_fcs": 1,
            "num_reg_fcs": 1,
            "conv_out_channels": 256,
            "fc_out_channels": embed_dim,
            "num_classes": 1203 if has_masks else 65,
            "reg_class_agnostic": True,
            "norm_cfg": NORM,
        },
    }
    if has_masks:
        heads["roi_head.mask_head"] = {
            "type": "mmdet.FCNMaskHead",
            "num_convs": 4,
            "num_classes": 1203,
            "class_agnostic": True,
            "norm_cfg": NORM,
        }
    else:  # with norms the proposal head is F-ViT's own
        heads["rpn_head"] = {
            "type": "mmdet.RPNHead",
            "in_channels": 256,
            "feat_channels": 256,
            "num_convs": 2,
            "anchor_generator": {
                "type": "mmdet.AnchorGenerator",
                "scales": [8],
                "ratios": [0.5, 1.0, 2.0],
                "strides": [4, 8, 16, 32, 64],
            },
        }
    expected = {}
    with torch.device("meta"), DefaultScope.overwrite_default_scope("mmdet"):
        for prefix, config in heads.items():
            for key, value in MODELS.build(config).state_dict().items():
                expected[f"{prefix}.{key}"] = value.shape
    tensors = {k: torch.empty(shape, device="meta") for k, shape in listing(name).items()}
    converted = convert_source(source_from(tensors, name), to="fvit").tensors
    ours = {
        key: value.shape
        for key, value in converted.items()
        if key.startswith(tuple(heads)) and key not in OWN
    }
    assert ours == {key: shape for key, shape in expected.items() if ".fc_cls." not in key}
