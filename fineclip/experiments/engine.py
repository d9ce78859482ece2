"""Trainings as jobs: each in a folder and a process of its own, continued and then kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from fineclip.files import write_atomically

JOB, RESULT, LOG = "job.json", "result.json", "log.txt"
_POLL_SECONDS = 0.2

Report = Callable[[str], None]


class Outcome(TypedDict, total=False):
    """What a job's function returns; ``result.json`` holds it with ``seconds`` and ``fingerprint``.

    Attributes:
        metrics: By name; the only one that must be there.
        said: One line about the result.
        examined: What :mod:`fineclip.experiments.examining` has found.
        checkpoint: File of the trained weights in the job's folder.
        seconds_per_epoch: Mean wall time of an epoch's steps, without evaluation and checkpoints.
        peak_memory_bytes: Most memory of the training; by default the whole job's is taken.
    """

    metrics: dict[str, float]
    said: str
    examined: dict[str, Any]
    checkpoint: str | None
    seconds_per_epoch: float | None
    peak_memory_bytes: int | None


# glibc hands freed tensors back and is given new pages for the next ones, which takes a tenth of a
# tiny training's time, and half of a large one's on a CPU; these settings let it keep them.
_KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}


@dataclass(frozen=True, eq=False)
class TrainingJob:
    """One training of one seed.

    Attributes:
        folder: Where it writes; what other settings left there is removed when it starts.
        function: ``"package.module:function"``, called by :mod:`fineclip.experiments.job` as
            ``function(folder, **arguments)``. It continues what an interrupted call left in the
            folder, and returns an :class:`Outcome`.
        arguments: JSON values, and two more: a ``Path`` is known by its name, so that a folder
            that was moved holds what it held before; a ``TrainingJob`` stands for its checkpoint,
            and has to be finished first.
        facts: JSON values that decide about the result beside the arguments.
    """

    folder: Path
    function: str
    arguments: Mapping[str, Any]
    facts: Any = field(default=None)

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever the result would, wherever the job lies."""
        facts = [self.function, by_name(self.arguments), self.facts]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    @cached_property
    def needs(self) -> tuple[TrainingJob, ...]:
        """The jobs whose checkpoints are among the arguments."""
        return tuple(leaf for leaf in _leaves(self.arguments) if isinstance(leaf, TrainingJob))

    @property
    def depth(self) -> int:
        """Number of jobs that come before it."""
        return max((need.depth + 1 for need in self.needs), default=0)

    def result(self) -> dict[str, Any] | None:
        """The :class:`Outcome` with seconds; None where there is none, or one of other settings."""
        found = _read_json(self.folder / RESULT)
        return found if found.get("fingerprint") == self.fingerprint else None

    def checkpoint(self) -> Path | None:
        """The trained weights, None where there are none."""
        name = (self.result() or {}).get("checkpoint")
        return self.folder / name if name and (self.folder / name).is_file() else None

    def start(
        self, *, threads: int | None = None, device: str | None = None, shown: bool = False
    ) -> subprocess.Popen:
        """Starts a process; everything it says goes to the log.

        Args:
            threads: CPU threads; None: the libraries' choice.
            device: The GPU it sees; None: those that this process sees.
            shown: Standard error, where progress bars are, is that of this process.
        """
        interrupted = _read_json(self.folder / JOB).get("fingerprint") == self.fingerprint
        if not interrupted or (self.folder / RESULT).exists():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        job = {
            "function": self.function,
            "arguments": _replace(self.arguments, _as_json),
            "fingerprint": self.fingerprint,
        }
        write_atomically(self.folder / JOB, json.dumps(job, indent=2) + "\n")
        environment = {**_KEPT_MEMORY, **os.environ}
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        command = [sys.executable, "-W", "ignore", "-m", "fineclip.experiments.job"]
        with (self.folder / LOG).open("w") as log:
            return subprocess.Popen(
                [*command, str(self.folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=None if shown else subprocess.STDOUT,
                env=environment,
            )

    def last_words(self) -> str:
        """The line of the log that says why the job failed."""
        log = self.folder / LOG
        lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
        errors = [line for line in lines if line.startswith("error: ")]
        said = errors or [line for line in lines if line.strip()] or ["no output"]
        return said[-1].removeprefix("error: ")


class _Running(NamedTuple):
    process: subprocess.Popen
    began: float
    slot: int
    shown: bool


def run_side_by_side(
    jobs: Iterable[TrainingJob],
    *,
    workers: int = 1,
    threads: int | None = None,
    devices: Sequence[str] = (),
    show: bool = False,
) -> Generator[tuple[TrainingJob, float], None, None]:
    """Runs what is unfinished, side by side, and yields each job when it has ended, well or not.

    A job ends by itself also where another one fails; one that needs a failed job is left out. Jobs
    that run when the iterator is closed are ended, and continue when they are run again.

    Args:
        jobs: See :func:`unfinished`.
        workers: Jobs at a time.
        threads: CPU threads of each; None: the libraries' choice.
        devices: GPUs that take turns; none: every job sees them all.
        show: Show the progress of one job at a time.

    Yields:
        The job and how many seconds it took.
    """
    waiting = unfinished(jobs)
    running: dict[TrainingJob, _Running] = {}
    try:
        while waiting or running:
            for job in list(waiting):
                if len(running) == workers:
                    break
                missing = [need for need in job.needs if need.checkpoint() is None]
                if not missing:
                    waiting.remove(job)
                    used = {other.slot for other in running.values()}
                    slot = min(set(range(workers)) - used)
                    device = devices[slot % len(devices)] if devices else None
                    shown = show and not any(other.shown for other in running.values())
                    process = job.start(threads=threads, device=device, shown=shown)
                    running[job] = _Running(process, time.monotonic(), slot, shown)
                elif not any(need in waiting or need in running for need in missing):
                    waiting.remove(job)
            for job, run in list(running.items()):
                if run.process.poll() is not None:
                    del running[job]
                    yield job, time.monotonic() - run.began
            if running:
                time.sleep(_POLL_SECONDS)
    finally:
        for run in running.values():
            run.process.terminate()
        for run in running.values():
            run.process.wait()


def unfinished(jobs: Iterable[TrainingJob]) -> list[TrainingJob]:
    """Jobs without a result and those whose weights these need, in an order in which they can run.

    Start weights come first, so that no worker waits for one longer than it must.
    """

    def chain(job: TrainingJob) -> Iterator[TrainingJob]:
        yield job
        for need in job.needs:
            if need.checkpoint() is None:
                yield from chain(need)

    found = (other for job in jobs if job.result() is None for other in chain(job))
    return sorted(dict.fromkeys(found), key=lambda job: job.depth)


def by_name(value: Any) -> Any:
    """Arguments with names for paths and fingerprints for jobs: what a fingerprint is made of."""

    def name(leaf: Any) -> Any:
        if isinstance(leaf, TrainingJob):
            return leaf.fingerprint
        return leaf.name if isinstance(leaf, Path) else leaf

    return _replace(value, name)


def _as_json(leaf: Any) -> Any:
    if isinstance(leaf, TrainingJob):
        return str(leaf.checkpoint())
    return str(leaf) if isinstance(leaf, Path) else leaf


def _replace(value: Any, change: Callable[[Any], Any]) -> Any:
    """A copy of nested dicts and lists with every leaf changed."""
    if isinstance(value, Mapping):
        return {key: _replace(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace(item, change) for item in value]
    return change(value)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}
