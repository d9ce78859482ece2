"""The learning rate of CLIP fine-tuning: linear warm-up, then half a cosine to zero."""

from __future__ import annotations

import logging
import math
from typing import Any

from mmengine.logging import print_log
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from torch.optim import Optimizer

from fineclip.checks import integer_from
from fineclip.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class WarmupCosineLR(LRSchedulerMixin, _ParamScheduler):
    """``lr * (step + 1) / warmup_iters`` at first, then half a cosine to 0 at the last step.

    One closed form over all steps (CLIP's schedule; open_clip's ``cosine_lr``). In a config:
    ``dict(type="WarmupCosineLR", warmup_iters=1000, end=max_epochs, by_epoch=True,
    convert_to_iter_based=True)``.

    Args:
        optimizer: The optimizer, or mmengine's wrapper of it.
        warmup_iters: Steps of warm-up.
        end: The last step.
        **kwargs: Passed to mmengine's scheduler.

    Raises:
        ValueError: ``warmup_iters`` is below 0, or ``end`` below 1.
    """

    def __init__(self, optimizer: Optimizer, *, warmup_iters: int, end: int, **kwargs: Any) -> None:
        integer_from(0).require(warmup_iters, "warmup_iters")
        integer_from(1).require(end, "end")
        if warmup_iters >= end:
            print_log(
                f"warm-up takes {warmup_iters} steps, the whole run has {end}: the learning rate "
                "never reaches its full value; lower warmup_iters",
                "current",
                level=logging.WARNING,
            )
        self.warmup_iters = warmup_iters
        self.total_iters = end
        super().__init__(optimizer, end=end, **kwargs)

    @classmethod
    def build_iter_from_epoch(
        cls, *args: Any, end: int, epoch_length: int, by_epoch: bool = True, **kwargs: Any
    ) -> WarmupCosineLR:
        """Converts ``end`` from epochs to steps; mmengine calls it."""
        return cls(*args, end=end * epoch_length, by_epoch=False, **kwargs)

    def _get_value(self) -> list[float]:
        if self.last_step < self.warmup_iters:
            factor = (self.last_step + 1) / self.warmup_iters
        else:
            done = (self.last_step - self.warmup_iters) / (self.total_iters - self.warmup_iters)
            factor = (1 + math.cos(math.pi * done)) / 2
        return [factor * value for value in self.base_values]
