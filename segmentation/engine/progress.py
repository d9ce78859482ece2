"""Progress in place of log lines."""

from __future__ import annotations

from detectron2.engine import HookBase
from detectron2.utils import comm

from fineclip.progress import Progress


class ProgressBar(HookBase):
    """Shows all training steps, with the time left and the loss.

    Args:
        description: Title of what is shown.
    """

    _progress: Progress  # from before_train on

    def __init__(self, description: str = "training") -> None:
        self.description = description

    def before_train(self) -> None:
        """Begins at the step that a resumed run starts from."""
        self._progress = Progress(
            self.description,
            "step",
            done=self.trainer.start_iter,
            disable=not comm.is_main_process(),
        )

    def after_step(self) -> None:
        """Shows a step."""
        latest = self.trainer.storage.latest()
        note = f"loss {latest['total_loss'][0]:.3f}" if "total_loss" in latest else ""
        self._progress.show(self.trainer.iter + 1, self.trainer.max_iter, note)

    def after_train(self) -> None:
        """Takes the bar away."""
        self._progress.close()
