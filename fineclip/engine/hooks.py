"""Hooks of pretraining."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from fineclip.checks import real
from fineclip.registry import HOOKS


@HOOKS.register_module()
class ClampLogitScaleHook(Hook):
    """Keeps the learned logit scale in a range after every step (CLIP, sec. 2.5).

    Args:
        minimum: Smallest log of the factor.
        maximum: Largest log of the factor; CLIP's is ln 100.

    Raises:
        ValueError: No number, or no range.
    """

    def __init__(self, minimum: float = 0.0, maximum: float = math.log(100)) -> None:
        real().require(minimum, "minimum")
        real(minimum).require(maximum, "maximum")
        self.range = (minimum, maximum)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Clamps in place."""
        with torch.no_grad():
            unwrapped(runner).clip.logit_scale.clamp_(*self.range)


@HOOKS.register_module()
class EMATeacherHook(Hook):
    """Moves the EMA teacher of ``LocalToGlobalDistillation`` after every optimizer step.

    With it of N iterations, the share of itself that the teacher keeps is::

        final_momentum - (final_momentum - momentum) (1 + cos(pi it / N)) / 2

    DINO's half cosine from ``momentum`` to ``final_momentum`` (Caron et al., ICCV 2021,
    Sec. 3.1). It depends on the iteration alone, and the teacher is saved with the model, so
    that a resumed run continues exactly. While gradients accumulate nothing moves.

    Args:
        momentum: Share at the first iteration.
        final_momentum: Share that is approached at the last.

    Raises:
        ValueError: For a share outside of [0, 1].
    """

    def __init__(self, momentum: float = 0.996, final_momentum: float = 1.0) -> None:
        real(0, 1).require(momentum, "momentum")
        real(0, 1).require(final_momentum, "final_momentum")
        self.momentum = momentum
        self.final_momentum = final_momentum

    def before_train(self, runner: Runner) -> None:
        """Starts the teacher from the student, whose weights are loaded by now."""
        unwrapped(runner).start_ema_teacher()

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Moves the teacher if the optimizer has stepped."""
        if runner.optim_wrapper.should_update():
            unwrapped(runner).update_ema_teacher(self.momentum_at(runner.iter, runner.max_iters))

    def momentum_at(self, iteration: int, max_iters: int) -> float:
        """The share kept after an iteration, counted from 0."""
        remaining = (1 + math.cos(math.pi * iteration / max_iters)) / 2
        return self.final_momentum - (self.final_momentum - self.momentum) * remaining


@HOOKS.register_module()
class SkippedSamplesHook(Hook):
    """Reports images that could not be used: each file once, and a count after each epoch."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._count = 0

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Any = None
    ) -> None:
        """Reads the batch's ``skipped`` list."""
        for file, reason in (data_batch or {}).get("skipped", ()):
            self._count += 1
            if file not in self._seen:
                self._seen.add(file)
                runner.logger.warning(f"skipped {file}: {reason}")

    def after_train_epoch(self, runner: Runner) -> None:
        """Logs the epoch's total."""
        if self._count:
            runner.logger.warning(f"{self._count} images were skipped in this epoch")
        self._count = 0


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Keeps checkpoints to tensors and plain values, so that they load with ``weights_only``.

    mmengine stores its smoothed log values as objects whose pickles name functions. They are left
    out; after resuming, the smoothing window starts afresh.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Replaces NumPy scalars by Python numbers and drops the log history."""
        hub = checkpoint["message_hub"]
        hub["log_scalars"] = {}
        hub["resumed_keys"] = {
            k: v for k, v in hub["resumed_keys"].items() if k in hub["runtime_info"]
        }
        hub["runtime_info"] = {
            key: value.item() if isinstance(value, np.generic) else value
            for key, value in hub["runtime_info"].items()
        }


def unwrapped(runner: Runner) -> Any:
    """The model of a run without the wrapper that distributed training puts around it.

    Any module: the hook that asks says what it needs of it.
    """
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
