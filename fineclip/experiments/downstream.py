"""What the CLIPs of the scenes experiment are good for: models trained on top of them, compared."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from fineclip.experiments.downstream_job import JOB, RESULT
from fineclip.experiments.scenes import Settings, finished_run
from fineclip.files import write_atomically

SOURCES = {"fineclip": "fineclip", "clip": "clip_continued"}
"""Name in the results, and the run whose weights it starts from; both took equally many steps."""

LOG = "log.txt"

_ENTRY = "fineclip.experiments.downstream_job"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """A training that starts from a CLIP.

    Attributes:
        name: Its stage, and its folder.
        function: ``"package.module:function"``, called in a process of its own as
            ``function(work_dir, data=..., init_checkpoint=..., seed=..., **options)``. It continues
            what an interrupted call left in the work dir, and returns metrics by name.
        metrics: Those to keep.
        options: Further arguments.
        configs: Files that decide about the result beside the arguments.
    """

    name: str
    function: str
    metrics: tuple[str, ...]
    options: Mapping[str, Any]
    configs: tuple[Path, ...] = ()


def run_task(
    task: Task,
    work_dir: str | Path,
    *,
    seed: int,
    settings: Settings,
    train: bool = True,
    report: Report = lambda line: None,
) -> dict[str, dict[str, float]]:
    """Trains one task from the refined and from the plain CLIP, side by side.

    Args:
        task: What to train.
        work_dir: Folder given to :func:`fineclip.experiments.scenes.run_scenes`.
        seed: Which of its seeds.
        settings: Its settings.
        train: False: only results that are there already.
        report: Called with one line when training starts, and one per result.

    Returns:
        Metrics by name of :data:`SOURCES`, as far as there are any.

    Raises:
        ValueError: The runs it starts from are not there, or a training failed.
    """
    root = Path(work_dir).resolve() / f"seed{seed}"
    jobs = {}
    for name, run in SOURCES.items():
        start = finished_run(work_dir, run, seed=seed, settings=settings)
        if start is not None:
            jobs[root / task.name / name] = _job(task, root / "scenes", start, seed)
        elif train:
            raise ValueError(
                f"stage {task.name} needs stage {run} with the same settings: {root / run} does "
                "not hold it"
            )
    missing = {folder: job for folder, job in jobs.items() if _result(folder, job) is None}
    begin = time.monotonic()
    if train and missing:
        names = " and ".join(folder.name for folder in missing)
        report(f"seed {seed}: {task.name}: training from {names} (log: {root / task.name}/*/{LOG})")
        _run_side_by_side(missing)
    results = {}
    for folder, job in jobs.items():
        found = _result(folder, job)
        if found is not None:
            results[folder.name] = {metric: found[metric] for metric in task.metrics}
            values = ", ".join(f"{metric} {found[metric]:.1f}" for metric in task.metrics)
            report(f"seed {seed}: {task.name}: {folder.name}: {values}")
    if train and missing:
        report(f"seed {seed}: {task.name}: done ({time.monotonic() - begin:.0f} s)")
    return results


def _job(task: Task, data: Path, start: tuple[Path, str], seed: int) -> dict[str, Any]:
    checkpoint, fingerprint = start
    content = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(task.configs)))
    return {
        "function": task.function,
        "arguments": {
            "data": str(data),
            "init_checkpoint": str(checkpoint.resolve()),
            "seed": seed,
            **task.options,
        },
        "start": fingerprint,
        "configs": content.hexdigest(),
    }


def _result(folder: Path, job: Mapping[str, Any]) -> dict[str, float] | None:
    if not (folder / RESULT).is_file() or json.loads((folder / JOB).read_text()) != job:
        return None
    return json.loads((folder / RESULT).read_text())


def _run_side_by_side(jobs: Mapping[Path, Mapping[str, Any]]) -> None:
    """Runs every job in its folder; the first one's progress is shown and stands for all."""
    threads = max(1, (os.cpu_count() or 1) // len(jobs))
    running: dict[Path, subprocess.Popen] = {}
    with ExitStack() as stack:
        for folder, job in jobs.items():
            if not (folder / JOB).is_file() or json.loads((folder / JOB).read_text()) != job:
                # What other settings left must not be taken for an interrupted run of these.
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                write_atomically(folder / JOB, json.dumps(job, indent=2) + "\n")
            log = stack.enter_context((folder / LOG).open("a"))
            running[folder] = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-W", "ignore", "-m", _ENTRY, str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log if running else None,
                    env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                )
            )
        try:
            for folder, process in running.items():
                if process.wait():
                    raise ValueError(
                        f"training in {folder} failed with exit code {process.returncode}; its "
                        f"last words are above or in {folder / LOG}"
                    )
        except BaseException:
            for process in running.values():
                process.terminate()
            raise


def summarize_task(
    by_seed: Mapping[int, Mapping[str, Mapping[str, float]]],
) -> dict[str, dict[str, float]]:
    """Means over seeds of what :func:`run_task` returned, by name of :data:`SOURCES`."""
    names = [name for name in SOURCES if all(name in results for results in by_seed.values())]
    return {
        name: {
            metric: mean(results[name][metric] for results in by_seed.values())
            for metric in next(iter(by_seed.values()))[name]
        }
        for name in names
    }


def task_table(task: Task, by_seed: Mapping[int, Mapping[str, Mapping[str, float]]]) -> str:
    """The summary as a Markdown table: mean and, with several seeds, standard deviation."""
    titles = (f"{task.name} from", *task.metrics)
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for name, means in summarize_task(by_seed).items():
        cells = []
        for metric, value in means.items():
            values = [results[name][metric] for results in by_seed.values()]
            spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{value:.1f}{spread}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
