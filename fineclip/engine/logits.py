"""Start values of logit scale and bias."""

from __future__ import annotations

import math

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from fineclip.checks import real
from fineclip.engine.hooks import unwrapped
from fineclip.registry import HOOKS


@HOOKS.register_module()
class InitialLogitsHook(Hook):
    """Sets logit scale and bias before the first step, whatever weights were loaded.

    Weights trained with a softmax have a scale of up to 100 and no bias, for which open_clip puts
    0: under a sigmoid every pair would then start as a certain match. A resumed run keeps its own
    values.

    Args:
        logit_scale: Log of the factor; SigLIP (Zhai et al., ICCV 2023) starts from log 10.
        logit_bias: Added to scaled similarities; SigLIP starts from -10.

    Raises:
        ValueError: One of them is no finite number.
    """

    def __init__(self, logit_scale: float = math.log(10), logit_bias: float = -10.0) -> None:
        real().require(logit_scale, "logit_scale")
        real().require(logit_bias, "logit_bias")
        self.logit_scale = logit_scale
        self.logit_bias = logit_bias

    def before_train(self, runner: Runner) -> None:
        """Fills both parameters in place.

        Raises:
            ValueError: The model has no logit bias.
        """
        if runner.iter > 0:
            return
        clip = unwrapped(runner).clip.clip
        if getattr(clip, "logit_bias", None) is None:
            raise ValueError(
                "InitialLogitsHook: the model has no logit bias; create it with init_logit_bias "
                "in the config's model.clip"
            )
        with torch.no_grad():
            clip.logit_scale.fill_(self.logit_scale)
            clip.logit_bias.fill_(self.logit_bias)
