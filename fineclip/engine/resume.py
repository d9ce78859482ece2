"""Training by epochs that continues in the middle of one, as if it had not been interrupted."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader

from fineclip.devices import default_device
from fineclip.interrupts import Interrupted, NotedSignal, noting_signals
from fineclip.registry import LOOPS

_ORDER = "data_order"


class ResumeError(ValueError):
    """A checkpoint that this training does not continue."""


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs, exact for checkpoints from the middle of an epoch as well.

    For checkpoints by iteration (``CheckpointHook(by_epoch=False)``). A resumed run takes the rest
    of the epoch's order from the sampler, so that what was seen already is not even decoded.
    mmengine's own loop would start the epoch over.

    Random draws of the model (dropout and the like) are seeded anew for every iteration from the
    run's seed, the iteration and the rank: no generator has to be saved, on any rank or device.

    Args:
        runner: The runner.
        dataloader: Training data; to resume within an epoch, its sampler needs ``skip``
            (:class:`fineclip.datasets.EpochSampler`, :class:`fineclip.datasets.ShardSampler`).
        max_epochs: Number of epochs.
        val_begin: First epoch after which is validated.
        val_interval: Epochs between validations.
        dynamic_intervals: Other intervals from certain epochs on.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict[str, Any],
        max_epochs: int,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals)
        self._iter: int
        self._done_in_epoch = 0
        self._in_epoch = False
        self._noted = NotedSignal()

    def run(self) -> torch.nn.Module:
        """Trains, from where a resumed checkpoint left off.

        Raises:
            ResumeError: Checkpoints are to be written between two updates of the weights.
            Interrupted: By SIGINT or SIGTERM, after the step; a checkpoint is written.
        """
        self._check_interval()
        self.runner.message_hub.update_info(_ORDER, self._order())
        try:
            return super().run()
        except KeyboardInterrupt as stop:
            if self._in_epoch or get_world_size() > 1:
                raise
            raise self._interrupted(getattr(stop, "number", signal.SIGINT)) from None

    def run_epoch(self) -> None:
        """Iterates one epoch, or what is left of it."""
        self._in_epoch = True
        with noting_signals() as self._noted:
            self.runner.call_hook("before_train_epoch")  # tells the sampler the epoch
            self.runner.model.train()
            done, self._done_in_epoch = self._done_in_epoch, 0
            if done < len(self.dataloader):
                if done:
                    self.dataloader.sampler.skip(done * self.dataloader.batch_size)
                for index, batch in enumerate(self.dataloader, start=done):
                    self.run_iter(index, batch)
                    told = self._told()
                    updated = self.runner.optim_wrapper.should_update()
                    if told and updated and index + 1 < len(self.dataloader):
                        raise self._interrupted(told)
            self.runner.call_hook("after_train_epoch")
            self._epoch += 1
            if told := self._told():
                raise self._interrupted(told)
        self._in_epoch = False

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """One training step, with generators of its own.

        Args:
            idx: Number of the batch in the epoch.
            data_batch: The batch.
        """
        state = np.random.SeedSequence((self.runner.seed, self._iter, self.runner.rank))
        torch.manual_seed(int(state.generate_state(1, np.uint64)[0] >> 1))
        super().run_iter(idx, data_batch)

    def _order(self) -> dict[str, int | None]:
        """What decides on the order of the data; plain values, they go into checkpoints."""
        loader = self.dataloader
        return {
            "images": len(loader.dataset),
            "batch_size": loader.batch_size,
            "processes": get_world_size(),
            "batches_per_epoch": len(loader),
            "sampler_seed": getattr(loader.sampler, "seed", None),
        }

    def take_position(self) -> None:
        """Goes to where a checkpoint was, which the runner has just loaded.

        At the end of an epoch, data, batch size and number of processes may be others than before:
        steps are then counted as if they had been so from the start.

        Raises:
            ResumeError: In the middle of an epoch, the data, their order or the batches are not
                those of the checkpoint.
        """
        order = self._order()
        saved = self.runner.message_hub.runtime_info.get(_ORDER) or order
        if _is_open(self.runner.cfg.get("train_dataloader")) and saved.get("sampler_seed"):
            self.dataloader.sampler.seed = order["sampler_seed"] = saved["sampler_seed"]
        done = self._iter - self._epoch * saved["batches_per_epoch"]
        whole = len(self.dataloader)
        if done in (0, saved["batches_per_epoch"]):  # the latter: before the epoch was closed
            self._done_in_epoch = whole if done else 0
            self._iter = self._epoch * whole + self._done_in_epoch
            return
        if changed := [name for name in order if order[name] != saved.get(name)]:
            raise ResumeError(
                "the checkpoint is from the middle of an epoch and the data have changed since: "
                + ", ".join(f"{name} was {saved.get(name)}, is {order[name]}" for name in changed)
                + "; resume with the same settings, or from a checkpoint at the end of an epoch"
            )
        if not 0 < done < whole:
            raise ResumeError(
                f"the checkpoint is at iteration {self._iter}, epoch {self._epoch}, which does "
                f"not fit {whole} batches an epoch; resume with the data and batch size it was "
                "trained with"
            )
        if not hasattr(self.dataloader.sampler, "skip"):
            raise ResumeError(
                "the checkpoint is from the middle of an epoch, which needs a sampler that can "
                f"skip: EpochSampler or ShardSampler, not {type(self.dataloader.sampler).__name__}"
            )
        self._done_in_epoch = done

    def _told(self) -> int:
        """The signal that came to any of the processes; 0: none."""
        told = self._noted.number or 0
        if get_world_size() > 1:
            flag = torch.tensor(told, device=default_device())
            all_reduce(flag, "max")
            told = int(flag)
        return told

    def _interrupted(self, number: int) -> Interrupted:
        """Saves, where the config saves at all, and says how to go on."""
        where = f"interrupted at step {self._iter}"
        for hook in self.runner.hooks:
            if isinstance(hook, CheckpointHook) and hasattr(hook, "save_interrupted"):
                hook.save_interrupted(self.runner)
                return Interrupted(number, f"{where}; continue with --resume")
        return Interrupted(number, where)

    def _check_interval(self) -> None:
        steps = getattr(self.runner.optim_wrapper, "_accumulative_counts", 1)
        for hook in self.runner.hooks:
            by_iteration = isinstance(hook, CheckpointHook) and not hook.by_epoch
            if by_iteration and hook.interval > 0 and hook.interval % steps:
                raise ResumeError(
                    f"a checkpoint every {hook.interval} iterations would fall between updates, "
                    f"which accumulate {steps}, and lose gradients: make the interval a multiple "
                    f"of {steps}"
                )


def _is_open(loader: Any) -> bool:
    """Whether the config leaves the seed of the data's order to chance."""
    sampler = loader.get("sampler") if isinstance(loader, Mapping) else None
    return isinstance(sampler, Mapping) and sampler.get("seed") is None
