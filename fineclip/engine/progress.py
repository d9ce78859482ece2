"""Progress in place of log lines."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from fineclip.progress import Progress
from fineclip.registry import HOOKS


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """Shows all training steps, with the time left and the loss.

    Args:
        description: Title of what is shown.
    """

    def __init__(self, description: str = "training") -> None:
        self.description = description
        self._progress = Progress(description, "step", disable=True)

    def before_train(self, runner: Runner) -> None:
        """Begins at the step that a resumed run starts from."""
        self._progress = Progress(
            self.description, "step", done=runner.iter, disable=runner.rank != 0
        )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Shows a step."""
        has_loss = outputs and "loss" in outputs
        note = f"loss {float(outputs['loss'].detach()):.2f}" if has_loss else ""
        self._progress.show(runner.iter + 1, runner.max_iters, note)

    def after_train(self, runner: Runner) -> None:
        """Takes the bar away."""
        self._progress.close()
