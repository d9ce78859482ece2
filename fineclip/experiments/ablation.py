"""A table of objectives: every row a training from the same start weights, several seeds each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fineclip.engine import load_config
from fineclip.experiments.ablation_results import METRICS, summarize_row, write_results
from fineclip.files import write_atomically
from fineclip.scenes import make_scenes

JOB, MEASURED, LOG = "job.json", "measured.json", "log.txt"
PRETRAINING = "pretraining"  # folder of the start weights
_ROW_KEYS = {"config", "options", "start"}
_POLL_SECONDS = 0.2

Report = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Its name, and that of its folder.
        config: Pretraining config; None: the row is the start weights themselves.
        options: Overrides of the config, beside those that all rows share.
        start: The option that receives the start weights: ``"pretrained"`` gives them to teachers
            as well, ``"load_from"`` tolerates parameters that they lack.
    """

    name: str
    config: Path | None
    options: Mapping[str, Any]
    start: str = "pretrained"


@dataclass(frozen=True)
class Ablation:
    """An experiment as its config describes it (``configs/ablation/scenes.py``).

    Attributes:
        scenes: Arguments of :func:`fineclip.scenes.make_scenes`.
        pretraining: The training that makes the start weights.
        rows: Rows by name, in the order of the table.
        workers: Trainings at a time.
        threads: CPU threads of each.
        amp: Precision of all trainings; None: float32.
    """

    scenes: Mapping[str, Any]
    pretraining: Row
    rows: Mapping[str, Row]
    workers: int
    threads: int
    amp: str | None

    @classmethod
    def from_config(cls, path: str | Path, options: dict[str, Any] | None = None) -> Ablation:
        """Reads a config, with overrides as for ``--cfg-options``.

        Raises:
            FileNotFoundError: The config, or one that it names, does not exist.
            ValueError: A key is missing or unknown, or a number is out of range.
        """
        config = load_config(path, options).to_dict()
        folder = Path(path).resolve().parent
        keys = ("scenes", "pretraining", "refinement", "rows", "workers", "threads", "amp")
        if missing := [key for key in keys if key not in config]:
            raise ValueError(f"{path} has no {', '.join(missing)}; it must set {', '.join(keys)}")
        for key in ("workers", "threads"):
            if not isinstance(config[key], int) or config[key] < 1:
                raise ValueError(f"{path}: {key} must be at least 1, got {config[key]!r}")
        if not config["rows"]:
            raise ValueError(f"{path}: rows is empty")
        return cls(
            scenes=config["scenes"],
            pretraining=_read_row(PRETRAINING, config["pretraining"], {}, folder),
            rows={
                name: _read_row(name, row, config["refinement"], folder)
                for name, row in config["rows"].items()
            },
            workers=config["workers"],
            threads=config["threads"],
            amp=config["amp"],
        )

    def plan(self, work_dir: str | Path, seed: int) -> dict[str, Training]:
        """The training behind every row; rows that would train the same share one.

        Raises:
            FileNotFoundError: A row's config does not exist.
            ValueError: A row's config cannot be evaluated or lacks what is overridden.
        """
        root = Path(work_dir).resolve() / f"seed{seed}"
        first = Training(self, self.pretraining, seed, root, None)
        planned, known = {}, {}
        for name, row in self.rows.items():
            if row.config is None:
                planned[name] = first
            else:
                training = Training(self, row, seed, root, first)
                planned[name] = known.setdefault(training.fingerprint, training)
        return planned


class Training:
    """One training of one seed, in its folder.

    Args:
        ablation: The experiment it belongs to.
        row: What to train.
        seed: Seed of the scenes and of training.
        root: Folder of the seed.
        after: The training whose weights it starts from; None: from scratch.

    Attributes:
        fingerprint: Changes whenever the training would, wherever it lies.
    """

    def __init__(
        self, ablation: Ablation, row: Row, seed: int, root: Path, after: Training | None
    ) -> None:
        self.row = row
        self.seed = seed
        self.after = after
        self.folder = root / row.name
        self.data = root / "scenes"
        self._ablation = ablation
        # Names in place of paths: a folder that was moved holds what it held before.
        resolved = load_config(row.config, self._options("scenes", "start weights"))
        facts = [
            resolved.to_dict(),
            {key: value for key, value in ablation.scenes.items() if key != "workers"},
            ablation.amp,
            after.fingerprint if after else None,
        ]
        text = json.dumps(facts, sort_keys=True, default=str)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    def _options(self, data: str, start: str) -> dict[str, Any]:
        options = {"data_root": data, "seed": self.seed, **self.row.options}
        return {**options, self.row.start: start} if self.after else options

    def measured(self) -> dict[str, Any] | None:
        """What :mod:`fineclip.experiments.measured_training` wrote; None where it has not yet."""
        file = self.folder / MEASURED
        if not file.is_file():
            return None
        measured = json.loads(file.read_text())
        return measured if measured["fingerprint"] == self.fingerprint else None

    def checkpoint(self) -> Path | None:
        """The trained weights, None where there are none."""
        measured = self.measured()
        file = self.folder / measured["checkpoint"] if measured else None
        return file if file and file.is_file() else None

    def start(self) -> subprocess.Popen:
        """Starts the training in a process of its own; what was in its folder is removed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        job = {
            "config": str(self.row.config),
            "options": self._options(str(self.data), str(self.after and self.after.checkpoint())),
            "amp": self._ablation.amp,
            "threads": self._ablation.threads,
            "fingerprint": self.fingerprint,
        }
        write_atomically(self.folder / JOB, json.dumps(job, indent=2) + "\n")
        with (self.folder / LOG).open("w") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "fineclip.experiments.measured_training", self.folder],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": str(self._ablation.threads)},
            )

    def last_words(self) -> str:
        """The line that says why the training failed."""
        lines = (self.folder / LOG).read_text(errors="replace").split("\n")
        errors = [line for line in lines if line.startswith("error: ")]
        said = errors or [line for line in lines if line.strip()] or ["no output"]
        return said[-1].removeprefix("error: ")


def _read_row(name: str, entry: Mapping[str, Any], shared: Mapping[str, Any], folder: Path) -> Row:
    if not isinstance(entry, Mapping) or "config" not in entry or set(entry) - _ROW_KEYS:
        raise ValueError(
            f"row {name!r} must be a dict with config and perhaps options and start, got {entry!r}"
        )
    if Path(name).name != name:
        raise ValueError(f"row name {name!r} cannot name a folder")
    config = entry["config"] and (folder / entry["config"]).resolve()
    return Row(
        name, config, {**shared, **entry.get("options", {})}, entry.get("start", "pretrained")
    )


def run_ablation(
    ablation: Ablation,
    work_dir: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    rows: Sequence[str] | None = None,
    report: Report = lambda line: None,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Trains what is missing, and writes the results after each training.

    ``results.json``, ``results.md`` and ``results.png`` in the work dir hold every row of which
    one of the seeds is finished, also rows that were not asked for this time. A finished training
    is kept; one whose settings changed, or that was interrupted, starts afresh.

    Args:
        ablation: The experiment.
        work_dir: Everything is written below this folder.
        seeds: Seeds of scenes and training; each makes its own data and start weights.
        rows: Names of the rows to train; None: all.
        report: Called with one line per finished training.

    Returns:
        The rows as in ``results.json``, and one line per training that failed.

    Raises:
        FileNotFoundError: A config does not exist.
        FileExistsError: The folder of the scenes holds something else.
        ValueError: An unknown row, or a config that cannot be used.
    """
    names = list(ablation.rows) if rows is None else list(rows)
    if unknown := sorted(set(names) - set(ablation.rows)):
        raise ValueError(f"unknown row {', '.join(unknown)}; known: {', '.join(ablation.rows)}")
    plans = {seed: ablation.plan(work_dir, seed) for seed in dict.fromkeys(seeds)}
    missing = _missing(plan[name] for name in names for plan in plans.values())
    for seed in sorted({training.seed for training in missing}):
        start = time.monotonic()
        _make_scenes(ablation.scenes, Path(work_dir) / f"seed{seed}" / "scenes", seed)
        report(f"seed {seed}: scenes ({time.monotonic() - start:.0f} s)")
    failures = []
    with closing(_run_all(missing, ablation.workers)) as finished:
        for count, (training, seconds) in enumerate(finished, 1):
            names = [n for n, other in plans[training.seed].items() if other is training]
            line = f"[{count}/{len(missing)}] seed {training.seed}: "
            line += " = ".join(names) or training.row.name
            if measured := training.measured():
                values = (f"{metric} {measured['metrics'][metric]:.1f}" for metric in METRICS)
                line += f": {', '.join(values)} ({seconds:.0f} s)"
                _write(ablation, work_dir, plans)
            else:
                line += f" failed: {training.last_words()} ({training.folder / LOG})"
                failures.append(line)
            report(line)
    return _write(ablation, work_dir, plans), failures


def _missing(trainings: Iterable[Training]) -> list[Training]:
    """What has to run, in an order in which it can: start weights first, then seed by seed."""
    rows = [training for training in dict.fromkeys(trainings) if training.measured() is None]
    needed = [t.after for t in rows if t.after and t.after.checkpoint() is None]
    rows.sort(key=lambda training: training.seed)
    return list(dict.fromkeys([*needed, *rows]))


def _make_scenes(settings: Mapping[str, Any], out: Path, seed: int) -> None:
    arguments = {"workers": os.cpu_count() or 1, **settings, "seed": seed}
    try:
        make_scenes(out, **arguments)
    except FileExistsError:
        # Scenes of other settings are replaced; anything else is refused once more.
        make_scenes(out, **arguments, overwrite=True)


def _run_all(trainings: Sequence[Training], workers: int) -> Iterator[tuple[Training, float]]:
    """Runs trainings side by side and yields each when it has ended, well or not, and its time.

    One whose start weights are missing once nothing can make them any more is left out.
    """
    waiting, running = list(trainings), {}
    try:
        while waiting or running:
            for training in list(waiting):
                first = training.after
                if len(running) == workers:
                    break
                if first is None or first.checkpoint():
                    waiting.remove(training)
                    running[training] = (training.start(), time.monotonic())
                elif first not in waiting and first not in running:
                    waiting.remove(training)
            for training, (process, start) in list(running.items()):
                if process.poll() is not None:
                    del running[training]
                    yield training, time.monotonic() - start
            if running:
                time.sleep(_POLL_SECONDS)
    finally:
        for process, _ in running.values():
            process.terminate()
            process.wait()


def _write(
    ablation: Ablation, work_dir: str | Path, plans: Mapping[int, Mapping[str, Training]]
) -> list[dict[str, Any]]:
    """Writes what is finished by now."""
    results = []
    for name, row in ablation.rows.items():
        by_seed = {seed: plan[name].measured() for seed, plan in plans.items()}
        finished = {seed: measured for seed, measured in by_seed.items() if measured}
        if finished:
            results.append(summarize_row(name, finished, with_cost=row.config is not None))
    Path(work_dir).mkdir(parents=True, exist_ok=True)
    write_results(work_dir, results)
    return results
