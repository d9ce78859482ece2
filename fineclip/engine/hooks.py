"""Hooks of pretraining."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from fineclip.checks import integer_from, real
from fineclip.images import SkippedImages
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

    The share of itself that it keeps is fixed, as in SILC (Naeem et al., ECCV 2024): a share that
    approaches 1 would leave a teacher that no longer learns. With ``final_momentum``, at iteration
    ``it`` of N it is::

        final_momentum - (final_momentum - momentum) (1 + cos(pi it / N)) / 2

    DINO's half cosine from ``momentum`` to ``final_momentum`` (Caron et al., ICCV 2021,
    Sec. 3.1; to 1.0 there). It depends on the iteration alone, and the teacher is saved with the
    model, so that a resumed run continues exactly. While gradients accumulate nothing moves.

    Args:
        momentum: Share at the first iteration.
        final_momentum: Share that is approached at the last; None: ``momentum``.

    Raises:
        ValueError: For a share outside of [0, 1].
    """

    def __init__(self, momentum: float = 0.996, final_momentum: float | None = None) -> None:
        real(0, 1).require(momentum, "momentum")
        final_momentum = momentum if final_momentum is None else final_momentum
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
class FrozenPrototypesHook(Hook):
    """Keeps the last layer of the prototype head still in the first epochs.

    DINO (Caron et al., ICCV 2021, appendix; its ``freeze_last_layer``): while the embeddings settle
    prototypes that move make the training unstable.

    Args:
        epochs: Number of epochs, 0 for none.

    Raises:
        ValueError: No number of epochs.
    """

    def __init__(self, epochs: int = 1) -> None:
        integer_from(0).require(epochs, "epochs")
        self.epochs = epochs

    def before_train_epoch(self, runner: Runner) -> None:
        """Stops the prototypes, or lets them go."""
        unwrapped(runner).prototype_head.frozen = runner.epoch < self.epochs


@HOOKS.register_module()
class SkippedSamplesHook(Hook):
    """Reports images that could not be used: each file once, and a count after each epoch.

    It reads the batch's ``skipped`` list in pretraining, and of mmdet's batches the metainfo
    ``skipped`` of the samples: in training such a sample is another image in place of those named
    there, in evaluation an empty one. When too many are unusable, or all, the run ends
    (:class:`fineclip.images.SkippedImages`); so it does in
    :func:`fineclip.evaluation.runner.evaluate`, which counts by itself.
    """

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._pass = SkippedImages(0)

    def before_train_epoch(self, runner: Runner) -> None:
        """Begins to count."""
        self._pass = SkippedImages(_number_of_images(runner.train_dataloader))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Any = None
    ) -> None:
        """Counts a batch.

        Raises:
            UnusableImageError: Too many images of this epoch are unusable.
        """
        batch = data_batch or {}
        if "data_samples" in batch:
            skipped = [item for items in _skipped_for(batch) for item in items]
            self._note(runner, len(batch["data_samples"]), skipped)
        else:
            self._note(runner, len(batch.get("images", ())), batch.get("skipped", ()))

    def after_train_epoch(self, runner: Runner) -> None:
        """Logs the epoch's total.

        Raises:
            UnusableImageError: All images of this epoch are unusable.
        """
        self._finish(runner, "epoch")

    def before_val_epoch(self, runner: Runner) -> None:
        """Begins to count."""
        self._pass = SkippedImages(_number_of_images(runner.val_dataloader))

    def before_test_epoch(self, runner: Runner) -> None:
        """Begins to count."""
        self._pass = SkippedImages(_number_of_images(runner.test_dataloader))

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Any = None
    ) -> None:
        """Counts a batch of mmdet's.

        Raises:
            UnusableImageError: Too many images of this evaluation are unusable.
        """
        if data_batch and "inputs" in data_batch:
            skipped = _skipped_for(data_batch)
            named = [item for items in skipped for item in items]
            self._note(runner, sum(not items for items in skipped), named)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Any = None
    ) -> None:
        """As :meth:`after_val_iter`."""
        self.after_val_iter(runner, batch_idx, data_batch, outputs)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Logs the evaluation's total.

        Raises:
            UnusableImageError: All of its images are unusable.
        """
        self._finish(runner, "evaluation")

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """As :meth:`after_val_epoch`."""
        self.after_val_epoch(runner, metrics)

    def _note(self, runner: Runner, used: int, skipped: Sequence[tuple[str, str]]) -> None:
        for file, reason in skipped:
            if file not in self._seen:
                self._seen.add(file)
                runner.logger.warning(f"skipped {file}: {reason}")
        self._pass.add(used, skipped)

    def _finish(self, runner: Runner, what: str) -> None:
        finished, self._pass = self._pass, SkippedImages(0)
        if finished.skipped:
            runner.logger.warning(f"{len(finished.skipped)} images were skipped in this {what}")
        finished.finish()


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


def _number_of_images(loader: Any) -> int:
    """Images that a loader yields in this process, the last batch counted as a full one."""
    if isinstance(loader, DataLoader) and loader.batch_size is not None:
        return len(loader) * loader.batch_size
    return len(loader.dataset)


def _skipped_for(batch: Mapping[str, Any]) -> list[list[tuple[str, str]]]:
    """For each sample of a batch of mmdet's, (file, reason) of the images it stands in for."""
    return [list(sample.metainfo.get("skipped", ())) for sample in batch["data_samples"]]
