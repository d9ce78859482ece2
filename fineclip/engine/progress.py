"""One progress bar in place of log lines."""

from __future__ import annotations

import sys
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from fineclip.registry import HOOKS


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """A tqdm bar over all training steps, with the time left and the loss.

    Args:
        description: Text at the left of the bar.
    """

    def __init__(self, description: str = "training") -> None:
        self.description = description
        self._bar = tqdm(disable=True)

    def before_train(self, runner: Runner) -> None:
        """Opens the bar, at the step a resumed run starts from."""
        # A file or pipe gets a line now and then instead of a redrawn one.
        quiet = not sys.stderr.isatty()
        self._bar = tqdm(
            total=runner.max_iters,
            initial=runner.iter,
            desc=self.description,
            unit="step",
            mininterval=20 if quiet else 0.5,
            disable=runner.rank != 0,
            leave=False,
        )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Advances the bar."""
        self._bar.update()
        if outputs and "loss" in outputs:
            self._bar.set_postfix(loss=f"{float(outputs['loss'].detach()):.2f}", refresh=False)

    def after_train(self, runner: Runner) -> None:
        """Closes the bar."""
        self._bar.close()
