"""Checkpoints that a killed run always has one of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from fineclip.engine.continuing import settings_of
from fineclip.files import replacing
from fineclip.registry import HOOKS
from fineclip.work_dir import INTERRUPTED, last_checkpoint, point_to


@HOOKS.register_module()
class KeptCheckpointHook(CheckpointHook):
    """mmengine's hook, with which a run that is killed at any moment can be resumed.

    A checkpoint has its name only when it is complete; then the pointer moves to it, and only then
    those go that ``max_keep_ckpts`` leaves no room for. mmengine removes the old one first, writes
    the new one under its name, and truncates the pointer before it writes it.

    Checkpoints also hold the settings of their run (``meta.settings``), which a resumed run is
    compared with. :func:`fineclip.engine.build_runner` puts it in the place of mmengine's.
    """

    _saved_at: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Removes what a killed run had no time to remove."""
        super().before_train(runner)
        last = last_checkpoint(self.out_dir) if is_main_process() and runner.iter else None
        if last is not None and last.name != INTERRUPTED:
            Path(self.out_dir, INTERRUPTED).unlink(missing_ok=True)
            self._remove_outdated(runner.epoch if self.by_epoch else runner.iter)

    def save_interrupted(self, runner: Runner) -> None:
        """Saves between two steps, unless the regular checkpoint was of this moment."""
        if self._saved_at != runner.iter:
            self._write(runner, INTERRUPTED, {"epoch": runner.epoch, "iter": runner.iter})

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        name = self.filename_tmpl.format(step)
        self.last_ckpt = str(Path(self.out_dir, name))
        # By name alone, and not how many are kept: final files do not tell of folders and kills.
        runner.message_hub.update_info("last_ckpt", name)
        self._write(runner, name, meta)
        self._saved_at = meta["iter"]
        if is_main_process():
            Path(self.out_dir, INTERRUPTED).unlink(missing_ok=True)
            self._remove_outdated(step)

    def _write(self, runner: Runner, name: str, meta: dict[str, Any]) -> None:
        file = Path(self.out_dir, name)
        options = {
            "save_optimizer": self.save_optimizer,
            "save_param_scheduler": self.save_param_scheduler,
            "meta": {**meta, "settings": settings_of(runner.cfg)},
            "by_epoch": self.by_epoch,
            **self.args,
        }
        if not is_main_process():  # it may hold a part of the model
            runner.save_checkpoint(str(file.parent), file.name, **options)
            return
        with replacing(file) as temporary:
            runner.save_checkpoint(str(temporary.parent), temporary.name, **options)
        point_to(file)

    def _remove_outdated(self, step: int) -> None:
        """Of the checkpoints up to this one, keeps the newest; later ones are another try's."""
        if self.max_keep_ckpts <= 0:
            return
        pattern = re.compile(re.escape(self.filename_tmpl).replace(r"\{\}", r"(\d+)"))
        found = (pattern.fullmatch(file.name) for file in Path(self.out_dir).iterdir())
        steps = sorted(int(name[1]) for name in found if name and int(name[1]) <= step)
        for old in steps[: -self.max_keep_ckpts]:
            Path(self.out_dir, self.filename_tmpl.format(old)).unlink(missing_ok=True)
