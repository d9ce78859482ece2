"""A table of objectives: every row a training from the same start weights, several seeds each."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fineclip.checks import FLAG, NOTHING, OBJECT, TEXT, check_entries, either
from fineclip.engine import load_config
from fineclip.engine.launch import Precision
from fineclip.experiments.engine import (
    LOG,
    Report,
    TrainingJob,
    by_name,
    run_side_by_side,
    unfinished,
)
from fineclip.experiments.results import TABLE, summarize_row, write_ablation
from fineclip.experiments.scenes import renew_scenes
from fineclip.scenes import VERSION

PRETRAINING = "pretraining"  # folder of start weights that are trained
_KEYS = ("refinement", "rows", "workers", "threads", "amp")
_ROW = {
    "config": either(NOTHING, TEXT),
    "options": OBJECT,
    "start": TEXT,
    "train": FLAG,
}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Its name, and that of its folder.
        config: Pretraining config; None: the row is the start weights that are trained.
        options: Overrides of the config, beside those that all rows share.
        start: The option that receives the start weights: ``"pretrained"`` gives them to teachers
            as well, ``"load_from"`` tolerates parameters that they lack.
        train: False: the row is the start weights as they are, tested as the config says.
    """

    name: str
    config: Path | None
    options: Mapping[str, Any]
    start: str = "pretrained"
    train: bool = True


@dataclass(frozen=True)
class Ablation:
    """An experiment as its config describes it (``configs/ablation/``).

    Attributes:
        scenes: Arguments of :func:`fineclip.scenes.make_scenes`; None: the data are there.
        data_root: Folder of the data; None: scenes are made.
        pretraining: The training that makes the start weights; None: they are given.
        start: Given start weights, an open_clip tag or a file; None: random.
        rows: Rows by name, in the order of the table.
        workers: Trainings at a time; with several GPUs they take turns.
        threads: CPU threads of each; None: the libraries' choice.
        amp: Precision of all trainings; None: float32.
        metrics: Titles of the columns by metric of the test.
    """

    scenes: Mapping[str, Any] | None
    data_root: str | None
    pretraining: Row | None
    start: str | None
    rows: Mapping[str, Row]
    workers: int
    threads: int | None
    amp: Precision | None
    metrics: Mapping[str, str] = field(default_factory=lambda: dict(TABLE))

    @classmethod
    def from_config(cls, path: str | Path, options: dict[str, Any] | None = None) -> Ablation:
        """Reads a config, with overrides as for ``--cfg-options``.

        Raises:
            FileNotFoundError: The config, or one that it names, does not exist.
            ValueError: A key is missing or unknown, or a number is out of range.
        """
        path = Path(path)
        config = load_config(path, options).to_dict()
        if missing := [key for key in _KEYS if key not in config]:
            raise ValueError(f"{path} has no {', '.join(missing)}; it must set {', '.join(_KEYS)}")
        for one, other in (("scenes", "data_root"), (PRETRAINING, "start")):
            if (one in config) == (other in config):
                raise ValueError(f"{path} must set either {one} or {other}")
        check_entries(config, {"rows": OBJECT, "refinement": OBJECT}, str(path))
        if not config["rows"]:
            raise ValueError(f"{path}: rows is empty")
        first = config.get(PRETRAINING)
        rows = {
            name: _read_row(name, row, config["refinement"], path)
            for name, row in config["rows"].items()
        }
        if nameless := [name for name, row in rows.items() if not first and row.config is None]:
            raise ValueError(
                f"{path}: row {', '.join(nameless)} without config is for start weights that are "
                f"trained ({PRETRAINING}); here it needs a config and train=False"
            )
        return cls(
            scenes=config.get("scenes"),
            data_root=config.get("data_root"),
            pretraining=_read_row(PRETRAINING, first, {}, path) if first else None,
            start=config.get("start"),
            rows=rows,
            workers=config["workers"],
            threads=config["threads"],
            amp=config["amp"],
            metrics=config.get("metrics", TABLE),
        )

    def plan(self, work_dir: str | Path, seed: int) -> dict[str, TrainingJob]:
        """The job of every row; rows that would train the same share one.

        Raises:
            FileNotFoundError: A row's config does not exist.
            ValueError: A row's config cannot be evaluated or lacks what is overridden.
        """
        make = partial(self._job, Path(work_dir).resolve() / f"seed{seed}", seed)
        first = make(self.pretraining, {}) if self.pretraining else None
        jobs: dict[str, TrainingJob] = {}
        known: dict[str, TrainingJob] = {}
        for name, row in self.rows.items():
            # A row without a config is the start weights, which are then trained.
            job = first if row.config is None else None
            job = job or make(row, {row.start: first or self.start})
            jobs[name] = known.setdefault(job.fingerprint, job)
        return jobs

    def _job(self, root: Path, seed: int, row: Row, start: dict[str, Any]) -> TrainingJob:
        assert row.config is not None  # from_config has refused it
        # Scenes follow from their settings, wherever they lie; of other data all that is known is
        # where they are.
        data = self.data_root or root / "scenes"
        options = {"data_root": data, "seed": seed, **row.options, **start}
        scenes = {key: value for key, value in (self.scenes or {}).items() if key != "workers"}
        if self.scenes is not None:
            scenes["version"] = VERSION
        return TrainingJob(
            root / row.name,
            f"fineclip.experiments.training:{'train' if row.train else 'evaluate'}",
            {"config": row.config, "options": options, "amp": self.amp},
            facts=[load_config(row.config, by_name(options)).to_dict(), scenes],
        )


def _read_row(name: str, entry: Mapping[str, Any], shared: Mapping[str, Any], file: Path) -> Row:
    where = f"{file}: row {name!r}"
    if not isinstance(entry, Mapping) or "config" not in entry or set(entry) - set(_ROW):
        raise ValueError(
            f"{where} must be a dict with config and perhaps options, start and train, got "
            f"{entry!r}"
        )
    check_entries(entry, _ROW, where, optional=_ROW)
    if Path(name).name != name:
        raise ValueError(f"{where}: its name cannot name a folder")
    rest = {key: entry[key] for key in ("start", "train") if key in entry}
    config = entry["config"] and (file.parent / entry["config"]).resolve()
    return Row(name, config, {**shared, **entry.get("options", {})}, **rest)


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
    is kept, an interrupted one continues, one whose settings changed starts afresh.

    Args:
        ablation: The experiment.
        work_dir: Everything is written below this folder.
        seeds: Seeds of training, and of scenes and start weights where these are made.
        rows: Names of the rows to train; None: all.
        report: Called with one line per finished training.

    Returns:
        The rows as in ``results.json``, and one line per training that failed.

    Raises:
        FileNotFoundError: A config or the data do not exist.
        FileExistsError: The folder of the scenes holds something else.
        ValueError: An unknown row, or a config that cannot be used.
    """
    names = list(ablation.rows) if rows is None else list(rows)
    if unknown := sorted(set(names) - set(ablation.rows)):
        raise ValueError(f"unknown row {', '.join(unknown)}; known: {', '.join(ablation.rows)}")
    if ablation.data_root is not None and not Path(ablation.data_root).is_dir():
        raise FileNotFoundError(f"data_root {ablation.data_root} does not exist")
    plans = {seed: ablation.plan(work_dir, seed) for seed in dict.fromkeys(seeds)}
    missing = unfinished(plan[name] for plan in plans.values() for name in names)
    for seed in plans:
        out = Path(work_dir).resolve() / f"seed{seed}" / "scenes"
        if ablation.scenes is not None and any(job.folder.parent == out.parent for job in missing):
            begin = time.monotonic()
            renew_scenes(out, **{**ablation.scenes, "seed": seed})
            report(f"seed {seed}: scenes ({time.monotonic() - begin:.0f} s)")
    failures = []
    finished = run_side_by_side(
        missing,
        workers=ablation.workers,
        threads=ablation.threads,
        devices=_gpus() if ablation.workers > 1 else (),
    )
    with closing(finished):
        for count, (job, seconds) in enumerate(finished, 1):
            line = f"[{count}/{len(missing)}] {_names(job, plans)}"
            if found := job.result():
                values = (f"{metric} {found['metrics'][metric]:.1f}" for metric in ablation.metrics)
                line += f": {', '.join(values)} ({seconds:.0f} s)"
                _write(ablation, work_dir, plans)
            else:
                line += f" failed: {job.last_words()} ({job.folder / LOG})"
                failures.append(line)
            report(line)
    return _write(ablation, work_dir, plans), failures


def _names(job: TrainingJob, plans: Mapping[int, Mapping[str, TrainingJob]]) -> str:
    """The rows that a job stands for, with their seed."""
    names = [(s, n) for s, plan in plans.items() for n, other in plan.items() if other is job]
    seed = names[0][0] if names else job.folder.parent.name.removeprefix("seed")
    return f"seed {seed}: {' = '.join(name for _, name in names) or job.folder.name}"


def _gpus() -> list[str]:
    """The GPUs that this process may use, as a child process is told of one."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return [str(number) for number in range(torch.cuda.device_count())]
    return [name for name in visible.split(",") if name]


def _write(
    ablation: Ablation, work_dir: str | Path, plans: Mapping[int, Mapping[str, TrainingJob]]
) -> list[dict[str, Any]]:
    """Writes what is finished by now."""
    results = []
    for name, row in ablation.rows.items():
        by_seed = {seed: plan[name].result() for seed, plan in plans.items()}
        finished = {seed: found for seed, found in by_seed.items() if found}
        if finished:
            results.append(
                summarize_row(
                    name, finished, metrics=ablation.metrics, with_cost=row.config is not None
                )
            )
    write_ablation(work_dir, results, ablation.metrics)
    return results
