"""One training in a process of its own, so that its time and its memory are its own.

``python -m fineclip.experiments.measured_training FOLDER`` reads ``FOLDER/job.json``, trains and
evaluates, and writes ``FOLDER/measured.json``. It exits with 2 and one line ``error: ...`` on
standard error where the job cannot be run.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, TypedDict

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from fineclip.checkpoints import CheckpointError
from fineclip.engine import build_runner, default_device, load_config, prepare_training
from fineclip.experiments.measuring import peak_memory_bytes, synchronize
from fineclip.experiments.scenes import attention_for_short_sequences
from fineclip.files import write_atomically

JOB = "job.json"
MEASURED = "measured.json"


class Job(TypedDict):
    """What to train.

    Attributes:
        config: Path of a pretraining config.
        options: Overrides of it, see :func:`fineclip.engine.load_config`.
        amp: Precision, see :func:`fineclip.engine.build_runner`; None: float32.
        threads: CPU threads of torch.
        fingerprint: Copied to the result, which says so what it is the result of.
    """

    config: str
    options: dict[str, Any]
    amp: str | None
    threads: int
    fingerprint: str


class Measured(TypedDict):
    """What came of it.

    Attributes:
        metrics: All metrics of the config's test, by name.
        seconds_per_epoch: Mean wall time of an epoch's steps, without evaluation and checkpoints.
        peak_memory_bytes: Most memory during training: allocated on the CUDA device if there is
            one, else resident in the process, its libraries included.
        checkpoint: File of the trained weights in the folder.
        fingerprint: The job's.
    """

    metrics: dict[str, float]
    seconds_per_epoch: float
    peak_memory_bytes: int
    checkpoint: str
    fingerprint: str


def measure(folder: str | Path, job: Job) -> Measured:
    """Trains from the start, then tests; logs and the last checkpoint stay in the folder.

    Args:
        folder: Work dir of the run.
        job: What to train.

    Raises:
        FileNotFoundError: A file of the job is missing.
        ValueError: The config or its data are wrong.
    """
    torch.set_num_threads(job["threads"])
    config = load_config(job["config"], job["options"])
    config.val_cfg = config.val_dataloader = config.val_evaluator = None  # tested once, at the end
    config.default_hooks.checkpoint = {
        "type": "CheckpointHook",
        "interval": -1,
        "save_last": True,
        "save_optimizer": False,
        "save_param_scheduler": False,
    }
    runner = build_runner(config, work_dir=folder, amp=job["amp"])
    times = _EpochTimes()
    runner.register_hook(times)
    with attention_for_short_sequences():
        prepare_training(runner)
        runner.train()
        memory = peak_memory_bytes()  # before the test, which may need more than training does
        metrics = {name: float(value) for name, value in runner.test().items()}
    return {
        "metrics": metrics,
        "seconds_per_epoch": sum(times.seconds) / len(times.seconds),
        "peak_memory_bytes": memory,
        "checkpoint": Path((Path(folder) / "last_checkpoint").read_text().strip()).name,
        "fingerprint": job["fingerprint"],
    }


class _EpochTimes(Hook):
    """Wall time of each epoch; its priority puts it in front of the hook that saves."""

    priority = "NORMAL"

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def before_train_epoch(self, runner: Runner) -> None:
        synchronize(default_device())
        self._start = time.perf_counter()

    def after_train_epoch(self, runner: Runner) -> None:
        synchronize(default_device())
        self.seconds.append(time.perf_counter() - self._start)


def main(argv: list[str]) -> int:
    """Runs the job of the folder ``argv[0]``."""
    folder = Path(argv[0])
    try:
        measured = measure(folder, json.loads((folder / JOB).read_text()))
    except (CheckpointError, ValueError, FileNotFoundError, NotADirectoryError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write_atomically(folder / MEASURED, json.dumps(measured, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
