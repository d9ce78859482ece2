"""F-ViT detectors: the published mmdet 2.x naming, and ours for mmdet 3.x.

Both call the pyramid, neck and heads alike. They differ in the image tower, which the release
names as EVA-CLIP and we as open_clip (so that every trunk has a place), and in tensors that the
release saves and never reads.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fineclip.checkpoints.layout import (
    Layout,
    batch_norm,
    conv,
    conv_transpose,
    linear,
)

PREFIX = "backbone."  # both begin the image tower's names, "visual.", with it
UNUSED = ("roi_head.bbox_head.fc_cls.weight", "roi_head.bbox_head.fc_cls.bias")
UNUSED_REASON = "saved by the release, read by nothing: the classifier is the text embeddings"

_HEAD = "roi_head.bbox_head."


def layout_of_rest(tensors: Mapping[str, Tensor]) -> Layout:
    """The layout of everything outside the image tower.

    Args:
        tensors: Those tensors; empty for a backbone alone.
    """
    if not tensors:
        return {}
    layout = {
        **conv_transpose("backbone.interpolate1.0", "C", "C", 2),
        **batch_norm("backbone.interpolate1.1", "C"),
        **conv_transpose("backbone.interpolate1.3", "C", "C", 2),
        **conv_transpose("backbone.interpolate2.0", "C", "C", 2),
        **_conv_module("neck.lateral_convs.{i}", "G", "C", 1, tensors),
        **_conv_module("neck.fpn_convs.{i}", "G", "G", 3, tensors),
    }
    if "rpn_head.rpn_conv.weight" in tensors:  # a single convolution has no list around it
        layout |= conv("rpn_head.rpn_conv", "Gp", "G", 3)
    else:
        layout |= _conv_modules("rpn_head.rpn_conv", "Gp", "G", tensors)
    layout |= {
        **conv("rpn_head.rpn_cls", "A", "Gp", 1),
        **conv("rpn_head.rpn_reg", "4*A", "Gp", 1),
        f"{_HEAD}detect_temperature?": (),
        f"{_HEAD}bg_embedding?": ("D", 1),
        f"{_HEAD}all_embeddings": ("D", "K"),
        **_conv_modules(f"{_HEAD}shared_convs", "Gb", "G", tensors),
        **linear(f"{_HEAD}shared_fcs.0", "S", "F"),  # F: channels times cells of a region
        **linear(f"{_HEAD}shared_fcs.1", "S", "S"),
        **linear(f"{_HEAD}cls_fcs.0", "D", "S"),
        **linear(f"{_HEAD}reg_fcs.0", "R", "S"),
        **linear(f"{_HEAD}fc_reg", "Q", "R"),
    }
    if any(key.startswith("roi_head.mask_head.") for key in tensors):
        layout |= {
            **_conv_modules("roi_head.mask_head.convs", "B", "G", tensors),
            **conv_transpose("roi_head.mask_head.upsample", "B", "B", 2),
            **conv("roi_head.mask_head.conv_logits", "masks", "B", 1),
        }
    return layout


def _conv_modules(name: str, width: str, inp: str, tensors: Mapping[str, Tensor]) -> Layout:
    """A row of 3x3 ConvModules; only the first reads ``inp`` channels."""
    row = _conv_module(f"{name}.{{i}}", width, width, 3, tensors)
    return row | {f"{name}.0.conv.weight": (width, inp, 3, 3)}


def _conv_module(
    name: str, out: str, inp: str, kernel: int, tensors: Mapping[str, Tensor]
) -> Layout:
    """Mmcv's ConvModule: with a norm, or with a bias."""
    if f"{name.replace('{i}', '0')}.bn.weight" in tensors:
        return conv(f"{name}.conv", out, inp, kernel, bias=False) | batch_norm(f"{name}.bn", out)
    return conv(f"{name}.conv", out, inp, kernel)
