"""The recorded F-ViT: its tensors, its tiny image tower, and a config of the whole detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import recorded
import torch
from recorded import behind
from timm.models import register_model
from timm.models.eva import Eva
from torch import Tensor

TOWER = "EVA02-recorded-F-ViT"
TINY = "EVA02-Ti-16"  # of three blocks
TINY_TAPS = (0, 1, 1, 2)
BACKGROUND_WEIGHT = 0.6


@register_model
def eva02_recorded_f_vit(pretrained: bool = False, **_: Any) -> Eva:
    """The tower of every recorded F-ViT, an EVA02 of twelve narrow blocks."""
    return recorded.f_vit_tower()


open_clip.add_model_config(Path(__file__).parent / f"{TOWER}.json")


def settings(name: str) -> dict[str, Any]:
    return recorded.read_json(f"fvit_{name}")


def tensors(name: str) -> dict[str, Any]:
    return recorded.tensors(f"fvit_{name}")


def backbone_config(**changes: Any) -> dict[str, Any]:
    taps = tuple(settings("backbone")["out_indices"])
    return {"type": "FViTBackbone", "model": TOWER, "out_indices": taps, **changes}


def align(output_size: int, channels: int, strides: list[float]) -> dict[str, Any]:
    return {
        "type": "SingleRoIExtractor",
        "roi_layer": {"type": "RoIAlign", "output_size": output_size, "sampling_ratio": 0},
        "out_channels": channels,
        "featmap_strides": strides,
    }


def detector_config(name: str) -> dict[str, Any]:
    """The config of ``detector_box`` or ``detector_mask``."""
    recorded = settings(name)
    numbers = recorded["config"]
    width, channels, fc = 64, numbers["ch"], numbers["emb"]
    norm = {"type": "BN"}
    strides = recorded["strides"]
    has_masks = recorded["mask_head"] is not None
    coder = {"type": "DeltaXYWHBBoxCoder"}
    roi_head = {
        "type": "FViTRoIHead",
        "bbox_roi_extractor": align(7, channels, strides[:4]),
        "bbox_head": {
            "type": "FViTBBoxHead",
            "in_channels": channels,
            "conv_out_channels": channels,
            "fc_out_channels": fc,
            "roi_feat_size": 7,
            "num_classes": numbers["num_classes"],
            "vocabulary": recorded["classes"],
            "novel_classes": recorded["novel"],
            "learned_temperature": numbers["temp"],
            "vlm_temperature": numbers["vlm"],
            "alpha": numbers["alpha"],
            "beta": numbers["beta"],
            "norm_cfg": norm,
            "bbox_coder": {**coder, "target_stds": [0.1, 0.1, 0.2, 0.2]},
            "loss_cls": {
                "type": "ClassMaskedCrossEntropy",
                "class_weight": [
                    0.0 if index in numbers["novel"] else 1.0
                    for index in range(numbers["num_classes"])
                ]
                + [BACKGROUND_WEIGHT],
            },
            "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
        },
    }
    if has_masks:
        roi_head["mask_roi_extractor"] = align(14, channels, strides[:4])
        roi_head["mask_head"] = {
            "type": "FCNMaskHead",
            "num_convs": 4,
            "in_channels": channels,
            "conv_out_channels": channels,
            "num_classes": numbers["num_classes"],
            "class_agnostic": True,
            "norm_cfg": norm,
        }
    return {
        "type": "FViT",
        "data_preprocessor": {"type": "DetDataPreprocessor"},
        "backbone": backbone_config(out_indices=tuple(recorded["out_indices"])),
        "neck": {
            "type": "FPN",
            "in_channels": [width] * 4,
            "out_channels": channels,
            "num_outs": 5,
            "norm_cfg": norm,
        },
        "rpn_head": {
            "type": "FViTRPNHead",
            "in_channels": channels,
            "feat_channels": channels,
            "num_convs": recorded["rpn"]["num_convs"],
            "norm_cfg": norm if recorded["rpn"]["norm"] else None,
            "anchor_generator": {
                "type": "AnchorGenerator",
                "scales": recorded["rpn"]["anchor_scales"],
                "ratios": recorded["rpn"]["anchor_ratios"],
                "strides": strides,
            },
            "bbox_coder": coder,
            "loss_cls": {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0},
            "loss_bbox": {"type": "L1Loss", "loss_weight": 1.0},
        },
        "roi_head": roi_head,
        "train_cfg": recorded["train_settings"],
        "test_cfg": recorded["test_settings"],
    }


def release_state_dict(name: str) -> dict[str, Tensor]:
    """The recorded weights in the naming of the release."""
    return behind(tensors(name), "param.", "buffer.")


def unpack_masks(packed: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Eight pixels a byte, the first in the lowest bit -> bool of a shape."""
    bits = packed[:, None] >> torch.arange(8, dtype=torch.uint8) & 1
    count = shape[0] * shape[1] * shape[2]
    return bits.flatten()[:count].view(shape).bool()
