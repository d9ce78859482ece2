"""A progress bar in place of log lines."""

from __future__ import annotations

import sys

from detectron2.engine import HookBase
from detectron2.utils import comm
from tqdm import tqdm


class ProgressBar(HookBase):
    """A tqdm bar over all training steps, with the time left and the loss.

    Args:
        description: Text before the bar.
    """

    _bar: tqdm  # from before_train on

    def __init__(self, description: str = "training") -> None:
        self.description = description

    def before_train(self) -> None:
        """Opens the bar, at the step a resumed run starts from."""
        # A file or pipe gets a line now and then instead of a redrawn one.
        quiet = not sys.stderr.isatty()
        self._bar = tqdm(
            total=self.trainer.max_iter,
            initial=self.trainer.start_iter,
            desc=self.description,
            unit="step",
            mininterval=20 if quiet else 0.5,
            disable=not comm.is_main_process(),
            leave=False,
        )

    def after_step(self) -> None:
        """Advances the bar."""
        self._bar.update()
        latest = self.trainer.storage.latest()
        if "total_loss" in latest:
            self._bar.set_postfix(loss=f"{latest['total_loss'][0]:.3f}", refresh=False)

    def after_train(self) -> None:
        """Closes the bar."""
        self._bar.close()
