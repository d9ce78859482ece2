"""Training and evaluation of a pretraining config as jobs, with what an epoch costs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from fineclip.checkpoints.write import save_torch
from fineclip.devices import default_device
from fineclip.engine import build_runner, load_config, prepare_training
from fineclip.engine.launch import Precision
from fineclip.experiments.engine import Outcome
from fineclip.experiments.measuring import peak_memory_bytes, synchronize

_SECONDS, _MEMORY = "epoch_seconds", "peak_memory_bytes"


def train(
    work_dir: str | Path,
    *,
    config: str | Path,
    options: dict[str, Any],
    amp: Precision | None = None,
    progress: str | None = None,
) -> Outcome:
    """Trains, from the last checkpoint of an interrupted call, then tests.

    Logs and the last checkpoint stay in the work dir, the latter without the optimizer.

    Args:
        work_dir: Folder of the run.
        config: Path of a pretraining config.
        options: Overrides of it, see :func:`fineclip.engine.load_config`.
        amp: Precision, see :func:`fineclip.engine.build_runner`; None: float32.
        progress: Show a progress bar with this text.

    Returns:
        All metrics of the config's test, checkpoint and costs. Memory is that of training:
        allocated on the CUDA device if there is one, else resident in the process.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The config or its data are wrong.
    """
    settings = load_config(config, options)
    _test_once(settings)
    settings.default_hooks.checkpoint.max_keep_ckpts = 1
    if progress is not None:
        settings.custom_hooks.append({"type": "ProgressBarHook", "description": progress})
    runner = build_runner(settings, work_dir=work_dir, amp=amp, resume=True, used="refuse")
    cost = _CostHook()
    runner.register_hook(cost)
    prepare_training(runner)
    runner.train()
    metrics = runner.test()
    checkpoint = Path(work_dir, Path((Path(work_dir) / "last_checkpoint").read_text()).name)
    _drop_optimizer(checkpoint)
    return {
        "metrics": {name: float(value) for name, value in metrics.items()},
        "checkpoint": checkpoint.name,
        "seconds_per_epoch": sum(cost.seconds) / len(cost.seconds) if cost.seconds else None,
        "peak_memory_bytes": cost.peak,
    }


def evaluate(
    work_dir: str | Path,
    *,
    config: str | Path,
    options: dict[str, Any],
    amp: Precision | None = None,
) -> Outcome:
    """Tests the weights that the config starts from; see :func:`train`."""
    settings = load_config(config, options)
    _test_once(settings)
    runner = build_runner(settings, work_dir=work_dir, amp=amp)
    metrics = runner.test()
    return {
        "metrics": {name: float(value) for name, value in metrics.items()},
        "seconds_per_epoch": None,
        "peak_memory_bytes": None,
    }


def _test_once(settings: Config) -> None:
    """No validation between epochs: the test at the end is the same."""
    settings.val_cfg = settings.val_dataloader = settings.val_evaluator = None


class _CostHook(Hook):
    """Wall time of each epoch, and memory; both are saved with checkpoints and so survive a resume.

    Its priority puts it before the hook that saves.

    Attributes:
        seconds: Of each whole epoch.
        peak: Bytes, see :func:`fineclip.experiments.measuring.peak_memory_bytes`.
    """

    priority = "NORMAL"

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.peak = 0

    def before_train(self, runner: Runner) -> None:
        if runner.iter:  # resumed: the message hub came with the checkpoint
            self.seconds = list(runner.message_hub.get_info(_SECONDS, []))
            self.peak = runner.message_hub.get_info(_MEMORY, 0)

    def before_train_epoch(self, runner: Runner) -> None:
        self._whole = runner.iter % len(runner.train_dataloader) == 0
        synchronize(default_device())
        self._start = time.perf_counter()

    def after_train_epoch(self, runner: Runner) -> None:
        synchronize(default_device())
        if self._whole:  # a resumed run may begin in the middle of one
            self.seconds.append(time.perf_counter() - self._start)
        self.peak = max(self.peak, peak_memory_bytes())
        runner.message_hub.update_info(_SECONDS, self.seconds)
        runner.message_hub.update_info(_MEMORY, self.peak)


def _drop_optimizer(file: Path) -> None:
    """Leaves what starts another training, or goes on with this one at its end."""
    checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    for name in ("optimizer", "param_schedulers"):
        checkpoint.pop(name, None)
    save_torch(file, checkpoint)
