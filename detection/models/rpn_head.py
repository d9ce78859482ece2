"""The proposal head of F-ViT."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS
from torch import Tensor, nn

from fineclip.parallel import mean_over_processes, world_size


@MODELS.register_module()
class FViTRPNHead(RPNHead):
    """mmdet's RPN head, whose convolutions may have norms and whose losses are global.

    The losses are means over the anchors sampled in all processes.

    With two convolutions or more, ``rpn_conv.{i}.conv`` has no bias and ``rpn_conv.{i}.bn`` (or
    another norm) follows it. With one, it is the stock head's biased convolution ``rpn_conv``
    without norm, as in the released code.

    Args:
        in_channels: Channels of the feature maps.
        num_convs: Number of 3x3 convolutions.
        norm_cfg: mmcv's config of their norms; None: the stock head.
        **kwargs: As for mmdet's ``RPNHead``. Strides of the anchors may be fractional (3.5 for
            the finest level of a patch of 14 pixels).
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_convs: int = 2,
        norm_cfg: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.norm_cfg = dict(norm_cfg) if norm_cfg is not None else None
        if self.norm_cfg is not None and num_convs == 1:
            warnings.warn("norm_cfg is not used by a single convolution", stacklevel=2)
        super().__init__(in_channels, num_convs=num_convs, **kwargs)

    def _init_layers(self) -> None:
        super()._init_layers()
        if self.num_convs > 1 and self.norm_cfg is not None:
            widths = [self.in_channels] + [self.feat_channels] * self.num_convs
            self.rpn_conv = nn.Sequential(
                *(
                    # mmdet's head reads the result twice: nothing may change it in place.
                    ConvModule(inp, out, 3, padding=1, norm_cfg=self.norm_cfg, inplace=False)
                    for inp, out in pairwise(widths)
                )
            )

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and deltas of one level.

        Args:
            x: (B, C, h, w) map.

        Returns:
            (B, A, h, w) logits and (B, 4 A, h, w) deltas of A anchors per location; float32, also
            under autocast: mmcv's NMS has no bfloat16, and half precision rounds boxes.
        """
        scores, deltas = super().forward_single(x)
        return scores.float(), deltas.float()

    def get_targets(self, *args: Any, **kwargs: Any) -> tuple:
        """Mmdet's targets, with the mean over processes of the number of sampled anchors.

        The losses are sums over this process's anchors divided by it: shares, whose mean over
        processes is the mean over the anchors of all.
        """
        targets = list(super().get_targets(*args, **kwargs))
        if world_size() > 1:
            number = torch.tensor(targets[4], device=targets[0][0].device)
            targets[4] = mean_over_processes(number)
        return tuple(targets)
