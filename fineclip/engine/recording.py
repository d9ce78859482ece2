"""The record of a training on mmengine's Runner."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from fineclip.engine.console import device_in_words
from fineclip.run_record import RunRecord


class RunRecordHook(Hook):
    """Keeps ``run.json`` of the work dir: what runs, how far it is, and whether it has ended."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self._record: RunRecord | None = None

    def before_train(self, runner: Runner) -> None:
        """Begins the record."""
        if is_main_process():
            self._record = RunRecord(
                runner.work_dir,
                config=Path(runner.cfg.filename).stem if runner.cfg.filename else None,
                device=device_in_words(),
                seed=runner.seed,
            )
            self._record.write(runner.iter)

    def after_train_epoch(self, runner: Runner) -> None:
        """Says how far it is."""
        if self._record is not None:
            self._record.write(runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Says that it has ended."""
        if self._record is not None:
            self._record.write(runner.iter, finished=True)
