"""Saving and evaluating a mix of the trained weights and those that training started from."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from fineclip.checks import real
from fineclip.engine.hooks import unwrapped
from fineclip.registry import HOOKS

_KEY = "mixing"


@HOOKS.register_module()
class MixedWeightsHook(Hook):
    """Evaluates and saves ``alpha`` x trained + ``1 - alpha`` x start weights; training sees none.

    WiSE-FT (Wortsman et al., CVPR 2022, "Robust fine-tuning of zero-shot models"), as CLIPSelf's
    release uses it: 0.7 of the trained weights at B/16, 0.95 at L/14. Frozen weights are their own
    mix. A checkpoint has the mix where weights are, so that whoever reads it takes that, and beside
    it the trained and the start weights of what trains: a resumed run continues exactly.

    After the fact, and for other values: ``tools/convert_checkpoint.py --mix START --alpha A``.

    Args:
        alpha: Share of the trained weights.

    Raises:
        ValueError: No share.
    """

    def __init__(self, alpha: float) -> None:
        real(0, 1).require(alpha, "alpha")
        self.alpha = alpha
        self._start: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] = {}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """A resumed run continues with the trained weights, and keeps its start.

        Raises:
            ValueError: A checkpoint of a run without this hook.
        """
        if not runner._resume:
            return
        if _KEY not in checkpoint:
            raise ValueError(
                "the checkpoint is of a run that did not mix its weights: resume with alpha=1.0, "
                "and mix with tools/convert_checkpoint.py --mix"
            )
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **checkpoint[_KEY]["trained"]}
        self._start = dict(checkpoint[_KEY]["start"])

    @torch.no_grad()
    def before_train(self, runner: Runner) -> None:
        """Keeps a copy of the start weights, unless they came with the checkpoint."""
        self._start = {
            name: self._start[name].to(value.device) if self._start else value.clone()
            for name, value in self._parameters(runner).items()
        }

    def before_val(self, runner: Runner) -> None:
        """Puts the mix in."""
        self._put_in(runner)

    def after_val(self, runner: Runner) -> None:
        """Puts the trained weights back."""
        self._put_back(runner)

    def before_test(self, runner: Runner) -> None:
        """Puts the mix in; where nothing was trained before, the weights stay as they are."""
        self._put_in(runner)

    def after_test(self, runner: Runner) -> None:
        """Puts the trained weights back."""
        self._put_back(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Saves the mix, and what a resumed run needs."""
        state = checkpoint["state_dict"]
        start = {name: value.cpu() for name, value in self._start.items()}
        trained = {name: state[name] for name in start}
        mixed = {name: start[name].lerp(value, self.alpha) for name, value in trained.items()}
        checkpoint["state_dict"] = {**state, **mixed}
        checkpoint[_KEY] = {"trained": trained, "start": start}

    @torch.no_grad()
    def _put_in(self, runner: Runner) -> None:
        if not self._start:
            return
        parameters = self._parameters(runner)
        self._trained = {name: value.clone() for name, value in parameters.items()}
        for name, value in parameters.items():
            value.copy_(self._start[name].lerp(value, self.alpha))

    @torch.no_grad()
    def _put_back(self, runner: Runner) -> None:
        for name, value in self._parameters(runner).items():
            if name in self._trained:
                value.copy_(self._trained[name])
        self._trained = {}

    def _parameters(self, runner: Runner) -> dict[str, Tensor]:
        """What trains of the CLIP, by its names in checkpoints."""
        parameters = unwrapped(runner).named_parameters()
        return {
            name: value.detach()
            for name, value in parameters
            if value.requires_grad and name.startswith("clip.")
        }
