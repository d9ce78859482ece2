"""The slowly moving copy of the image tower that teaches SILC's student."""

from __future__ import annotations

import torch
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from fineclip.models.dense_clip import DenseCLIP
from fineclip.models.trunks import build_trunk


class EMATeacher(ExponentialMovingAverage):
    """Exponential moving average of an image tower with its prototype head.

    As in DINO (Caron et al., ICCV 2021, Sec. 3.1), after every optimizer step::

        teacher <- momentum teacher + (1 - momentum) student

    mmengine's average does the work; its own ``momentum`` is one minus this one, and its first
    update copies the student. That first update is :meth:`start`. Buffers (of batch
    normalisation) are the student's. Unlike mmengine's ``EMAHook``, which keeps an average beside
    the model for evaluation, the teacher takes part in the forward pass and so is part of it:
    it is saved with the model.

    Args:
        clip: The student.
        head: The student's prototype head.
    """

    def __init__(self, clip: DenseCLIP, head: nn.Module) -> None:
        super().__init__(_towers(clip, head))
        self.trunk = build_trunk(self.module["visual"])
        self.eval()

    @property
    def started(self) -> bool:
        """Whether the teacher has been set to the student's weights."""
        return bool(self.steps > 0)

    def train(self, mode: bool = True) -> EMATeacher:
        """A teacher is always in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, views: Tensor) -> Tensor:
        """(B, 3, H, W) normalised views -> (B, P) prototype logits without graph."""
        if not len(views):
            return views.new_zeros(0, len(self.module["head"].prototypes))
        embedding = self.trunk.global_head(self.trunk.forward_shared(views))
        return self.module["head"](embedding)

    def start(self, clip: DenseCLIP, head: nn.Module) -> None:
        """Copies the student, unless that has been done: in this run or in the one resumed."""
        if not self.started:
            self.update_parameters(_towers(clip, head))

    def update(self, clip: DenseCLIP, head: nn.Module, momentum: float) -> None:
        """Moves a share ``1 - momentum`` of the way to the student; call :meth:`start` before."""
        self.momentum = 1 - momentum
        self.update_parameters(_towers(clip, head))


def _towers(clip: DenseCLIP, head: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict({"visual": clip.clip.visual, "head": head})
