"""What a run says on the console: ten lines before it, how far it is, a line per epoch.

mmengine's own log, with environment, config and hooks, goes to the log file.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from tqdm import tqdm

from fineclip.devices import default_device
from fineclip.engine.hooks import unwrapped
from fineclip.progress import Progress, print_plan
from fineclip.quiet import is_no_noise, mute_noise


def with_quiet_console(kind: type[Runner]) -> type[Runner]:
    """A runner whose console gets warnings alone; the log file gets everything."""
    mute_noise()

    class QuietRunner(kind):
        def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
            logger = super().build_logger(*args, **kwargs)
            for handler in logger.handlers:
                if not isinstance(handler, logging.FileHandler):
                    handler.setLevel(max(handler.level, logging.WARNING))
                    handler.addFilter(is_no_noise)
            return logger

    return QuietRunner


def start_console(runner: Runner, *, training: bool = True) -> None:
    """Prints what a prepared run is about to do, and makes it report on the console.

    Args:
        runner: Of :func:`fineclip.engine.build_runner`, with its data sets built.
        training: Whether it trains; otherwise it tests.
    """
    if is_main_process():
        if opening := getattr(runner, "opening", ""):
            print(opening)
        print_plan(summary(runner, training=training))
    runner.register_hook(ConsoleHook(), priority="LOWEST")


def summary(runner: Runner, *, training: bool = True) -> dict[str, str]:
    """The lines that matter of a run, by their titles: ten where it trains."""
    model, config = unwrapped(runner), runner.cfg
    lines = {"model": _model(model, config), "start": _start(config), "data": _data(runner)}
    if training:
        lines |= {"objectives": _objectives(model), "schedule": _schedule(runner)}
    lines |= {"device": device_in_words(), "precision": _precision(config)}
    if training:
        lines["memory"] = _memory(model, config)
    log = Path(runner.log_dir) / f"{runner.timestamp}.log"
    return lines | {"results": runner.work_dir, "log": f"{log}, with environment and settings"}


class ConsoleHook(Hook):
    """Shows progress, and prints a line per epoch and per evaluation."""

    def __init__(self) -> None:
        self._progress = self._evaluation = Progress("", "", disable=True)  # until it begins
        self._losses: list[float] = []
        self._start = self._epoch_start = 0.0

    def before_train(self, runner: Runner) -> None:
        """Begins at the step that a resumed run starts from."""
        self._start = time.monotonic()
        self._progress = _progress("training", "step", runner.iter)

    def before_train_epoch(self, runner: Runner) -> None:
        """Begins to count."""
        self._losses, self._epoch_start = [], time.monotonic()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Shows a step."""
        note = ""
        if isinstance(outputs, Mapping) and "loss" in outputs:
            self._losses.append(float(outputs["loss"].detach()))
            note = f"loss {self._losses[-1]:.3f}"
        self._progress.show(runner.iter + 1, runner.max_iters, note)

    def after_train_epoch(self, runner: Runner) -> None:
        """Prints the mean loss of an epoch."""
        if self._losses:
            seconds = tqdm.format_interval(time.monotonic() - self._epoch_start)
            mean = sum(self._losses) / len(self._losses)
            self._say(
                f"epoch {runner.epoch + 1} of {runner.max_epochs}: loss {mean:.4f} in {seconds}"
            )

    def after_train(self, runner: Runner) -> None:
        """Says how long it took, and what is left of it."""
        seconds = tqdm.format_interval(time.monotonic() - self._start)
        last = Path(runner.work_dir, runner.message_hub.get_info("last_ckpt", ""))
        self._say(f"trained in {seconds}: {last}")

    def before_val_epoch(self, runner: Runner) -> None:
        """Begins to count."""
        self._progress.close()
        self._evaluation = _progress("evaluating", "batch")

    before_test_epoch = before_val_epoch

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Shows a batch."""
        self._evaluation.show(batch_idx + 1, len(runner.val_dataloader))

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Shows a batch."""
        self._evaluation.show(batch_idx + 1, len(runner.test_dataloader))

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Prints the metrics."""
        self._evaluation.close()
        self._say(f"evaluation: {_in_words(metrics or {})}")

    after_test_epoch = after_val_epoch

    def _say(self, line: str) -> None:
        self._progress.close()  # it is drawn anew below the line
        if is_main_process():
            print(line, flush=True)


def _progress(title: str, unit: str, done: int = 0) -> Progress:
    return Progress(title, unit, done=done, disable=not is_main_process())


def _in_words(metrics: Mapping[str, Any]) -> str:
    numbers = (f"{k} {v:.4g}" for k, v in metrics.items() if isinstance(v, int | float))
    return ", ".join(numbers)


def _model(model: Any, config: Mapping[str, Any]) -> str:
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    count, trained = sum(n for n, _ in sizes), sum(n for n, trains in sizes if trains)
    name = config.get("model_name") or type(model).__name__
    kind = f", {type(model).__name__}" if name != type(model).__name__ else ""
    return f"{name}{kind}: {count / 1e6:.1f} M parameters, {trained / 1e6:.1f} M trained"


def _start(config: Mapping[str, Any]) -> str:
    if config.get("load_from"):
        return f"{'resumed from' if config.get('resume') else 'weights of'} {config['load_from']}"
    return f"weights {config['pretrained']}" if config.get("pretrained") else "random weights"


def _data(runner: Runner) -> str:
    parts = []
    for name in ("train", "val", "test"):
        loop = getattr(runner, f"_{name}_loop")
        if (loader := getattr(loop, "dataloader", None)) is not None:
            sets = {name: getattr(loader, "dataset", None)}
            if hasattr(loader, "loaders"):
                sets = {f"{name} {task}": one.dataset for task, one in loader.loaders.items()}
            parts += [f"{len(cast(Sized, found))} for {where}" for where, found in sets.items()]
    root = runner.cfg.get("data_root")
    return f"samples: {', '.join(parts)}" + (f" ({root})" if root else "")


def _objectives(model: Any) -> str:
    names = [
        type(objective).__name__ + (f" x {weight:g}" if weight != 1 else "")
        for objective in getattr(model, "objectives", ())
        for weight in [getattr(objective, "weight", 1)]
    ]
    method = ", ".join(names)
    return method or f"the losses of {type(model).__name__}"


def _schedule(runner: Runner) -> str:
    config, loader = runner.cfg, runner.train_dataloader
    wrapper = config.optim_wrapper
    accumulate = wrapper.get("accumulative_counts", 1)
    batch = (loader.batch_size or 1) * get_world_size() * accumulate
    words = [f"{_count(runner.max_epochs, 'epoch')} of {_count(len(loader), 'step')}"]
    words.append(f"{_count(batch, 'image')} an update")
    if (rate := wrapper.get("optimizer", {}).get("lr")) is not None:
        words.append(f"learning rate {rate:g}")
    if config.get("warmup_iters"):
        words.append(f"warmup {_count(config.warmup_iters, 'step')}")
    if interval := (config.get("train_cfg") or {}).get("val_interval"):
        words.append(f"validation every {_count(interval, 'epoch')}")
    return ", ".join(words)


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def device_in_words() -> str:
    """What this process computes on: kind, name or threads, and how many processes there are."""
    device = default_device()
    if device.type == "cuda":
        name = torch.cuda.get_device_name()
    else:
        name = f"{torch.get_num_threads()} threads"
    processes = f", {get_world_size()} processes" if get_world_size() > 1 else ""
    return f"{device.type} ({name}){processes}"


def _precision(config: Mapping[str, Any]) -> str:
    wrapper = config.get("optim_wrapper") or {}
    return wrapper.get("dtype") or "float32"


def _memory(model: Any, config: Mapping[str, Any]) -> str:
    chunks = getattr(model, "chunks", None)
    if chunks is None or chunks.sizes is None:
        plan = "a batch at once"
    elif chunks.sizes == "auto":
        budget = f"{chunks.budget / 2**30:.1f} GiB" if chunks.budget else "half of what is free"
        plan = f"what fits into {budget} is kept, the rest recomputed"
    else:
        plan = "chunks of " + ", ".join(f"{n} {name}" for name, n in chunks.sizes.items())
    extra = [name for name in ("grad_checkpointing", "compile_blocks") if config.get(name)]
    return ", ".join([plan, *extra])
