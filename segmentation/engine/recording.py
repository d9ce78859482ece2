"""The record of a training on detectron2's trainer."""

from __future__ import annotations

from detectron2.engine import HookBase

from fineclip.run_record import RunRecord
from segmentation.engine.console import device_in_words_of

_EVERY = 100  # steps between two notes of how far it is


class RecordHook(HookBase):
    """Keeps ``run.json`` of the output folder (:mod:`fineclip.run_record`); of the main process.

    Args:
        seed: Of the training.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._record: RunRecord | None = None

    def before_train(self) -> None:
        """Begins the record."""
        cfg = self.trainer.cfg
        self._record = RunRecord(
            cfg.OUTPUT_DIR,
            config=cfg.CONFIG_NAME,
            device=device_in_words_of(cfg),
            seed=self.seed,
        )
        self._record.write(self.trainer.start_iter)

    def after_step(self) -> None:
        """Says how far it is, now and then."""
        step = self.trainer.iter + 1
        if self._record is not None and step % _EVERY == 0:
            self._record.write(step)

    def after_train(self) -> None:
        """Says whether it has ended; it comes after an interruption as well."""
        if self._record is not None:
            step = self.trainer.iter
            self._record.write(step, finished=step >= self.trainer.max_iter)
