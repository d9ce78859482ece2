"""Curves of a run, all over training steps, in the groups ``train`` and ``val``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmengine.hooks import LoggerHook
from mmengine.runner import BaseLoop, Runner
from mmengine.visualization import LocalVisBackend

from fineclip.registry import HOOKS


@HOOKS.register_module()
class CurvesHook(LoggerHook):
    """mmengine's logger, whose validations stand at the training step they were made at.

    mmengine counts them by epoch, so that TensorBoard draws them beside a loss over steps. Names
    become ``train/loss`` and ``val/box_top1``; in ``scalars.json``, which programs read, they stay
    as they are.
    """

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Logs a step now and then."""
        with _grouped(runner, "train"):
            super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Logs a validation."""
        trained = isinstance(runner._train_loop, BaseLoop)
        with _grouped(runner, "val", runner.iter if trained else 0):
            super().after_val_epoch(runner, metrics)


@contextmanager
def _grouped(runner: Runner, group: str, place: int | None = None) -> Iterator[None]:
    """What the visualizer gets within it has a group, and stands at a place if one is given."""
    visualizer = runner.visualizer

    def add_scalars(values: Mapping[str, Any], step: int = 0, file_path: Any = None) -> None:
        at = step if place is None else place
        for backend in visualizer._vis_backends.values():
            if isinstance(backend, LocalVisBackend):
                backend.add_scalars(dict(values), at, file_path)
            else:
                backend.add_scalars({f"{group}/{k}": v for k, v in values.items()}, at, file_path)

    visualizer.add_scalars = add_scalars
    try:
        yield
    finally:
        del visualizer.add_scalars
