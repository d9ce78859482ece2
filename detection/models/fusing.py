"""Fuses layers that follow each other without anything nonlinear in between."""

from __future__ import annotations

import torch
from mmcv.cnn import ConvModule
from mmcv.cnn.utils.fuse_conv_bn import fuse_conv_bn
from mmdet.models.necks import FPN
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from detection.models.backbone import FViTBackbone


@torch.no_grad()
def fuse_batch_norms(*parts: nn.Module) -> None:
    """Folds batch norms into the convolutions before them, in place.

    Args:
        parts: Modules in eval mode.
    """
    for part in parts:
        fuse_conv_bn(part)


@torch.no_grad()
def fuse_upsampling_norm(backbone: FViTBackbone) -> None:
    """Folds the pyramid's batch norm into the transposed convolution before it, in place."""
    layers = getattr(backbone, "interpolate1", None)
    if layers is not None and isinstance(layers[1], nn.modules.batchnorm._BatchNorm):
        layers[0] = fuse_conv_bn_eval(layers[0], layers[1], transpose=True)
        layers[1] = nn.Identity()


@torch.no_grad()
def fuse_upsampling(backbone: FViTBackbone, neck: FPN) -> None:
    """Folds the FPN's 1x1 convolutions into the transposed convolutions before them.

    A transposed convolution to 768 channels and a projection of its result to 256 is one to 256
    channels, with a third of the work; together these are most of the pyramid's.

    Args:
        backbone: Changed in place: its finer levels have the FPN's channels afterwards.
        neck: Changed in place; batch norms folded, see :func:`fuse_batch_norms`.
    """
    for index, level in enumerate(range(backbone.first_level, 2)):
        upsampling = getattr(backbone, f"interpolate{level + 1}", None)
        lateral = neck.lateral_convs[index] if neck.start_level == 0 else None
        if upsampling is None or lateral is None or not _is_linear(lateral):
            continue
        last, projection = upsampling[-1], lateral.conv
        fused = nn.ConvTranspose2d(
            last.in_channels, projection.out_channels, last.kernel_size, last.stride
        ).to(last.weight)
        weight = projection.weight.flatten(1)  # (C', C)
        # (I, C, kh, kw) -> (I, C', kh, kw)
        fused.weight.copy_(torch.einsum("ichw,oc->iohw", last.weight, weight))
        bias = weight @ last.bias
        fused.bias = nn.Parameter(bias if projection.bias is None else bias + projection.bias)
        upsampling[-1] = fused.eval()
        neck.lateral_convs[index] = nn.Identity()


def _is_linear(lateral: nn.Module) -> bool:
    return (
        isinstance(lateral, ConvModule)
        and lateral.conv.kernel_size == (1, 1)
        and not lateral.with_activation
        and (not lateral.with_norm or isinstance(lateral.norm, nn.Identity))
    )
