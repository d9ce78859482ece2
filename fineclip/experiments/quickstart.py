"""CLIP from scratch on scenes, continued with and without FineCLIP: does it see regions?

And are they good for more? Tasks, such as a detector, start from the two continued models.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fineclip.experiments.engine import LOG, Report, TrainingJob, run_side_by_side
from fineclip.experiments.results import (
    METRICS,
    TITLES,
    Statistic,
    cell,
    markdown_table,
    plot_losses,
    summarize,
)
from fineclip.files import write_atomically

RUNS = ("clip", "clip_continued", "fineclip")
STAGES = ("scenes", *RUNS)
_SCENES_SECONDS = "scenes_seconds.json"
SOURCES = {"fineclip": "fineclip", "clip": "clip_continued"}
"""Rows of a task, and the run whose weights each starts from; both took equally many steps."""

RECIPE = Path(__file__).parents[2] / "configs" / "fineclip" / "scenes.py"
MODELS = "model"  # title of the table of runs
LOSSES = {
    "loss_global": "global contrastive",
    "loss_region": "region contrastive",
    "loss_distill": "self-distillation",
}

Results = dict[str, dict[str, dict[str, float]]]
"""Percent by table (:data:`MODELS` or the name of a task), row and metric."""


@dataclass(frozen=True)
class QuickstartSettings:
    """Size of the experiment.

    Attributes:
        images: Training scenes.
        val_images: Validation scenes.
        pretrain_epochs: Epochs of the first CLIP, from scratch.
        epochs: Epochs of each continuation.
        lr: Learning rate of the first CLIP.
        continue_lr: Learning rate of the continuations.
        batch_size: Images per step of the first CLIP.
        continue_batch_size: Images per step of the continuations.
        amp: Precision of all trainings; None: float32.
        scenes: Further arguments of :func:`fineclip.scenes.make_scenes`.
    """

    images: int = 3000
    val_images: int = 500
    pretrain_epochs: int = 10
    epochs: int = 6
    lr: float = 1e-3
    continue_lr: float = 1e-3
    batch_size: int = 64
    continue_batch_size: int = 32
    amp: Literal["bf16"] | None = None
    scenes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DownstreamTask:
    """A training that starts from a CLIP.

    Attributes:
        name: Its stage, and its folder.
        function: A job's (:class:`fineclip.experiments.engine.TrainingJob`), called as
            ``function(work_dir, data=..., init_checkpoint=..., seed=..., amp=..., **options)``.
        metrics: Those to keep.
        options: Further arguments.
        configs: Files that decide about the result beside the arguments.
    """

    name: str
    function: str
    metrics: tuple[str, ...]
    options: Mapping[str, Any]
    configs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Stage:
    """Rows that are trained side by side.

    Attributes:
        name: As ``--stages`` says it.
        table: Where its rows belong.
        metrics: Those to keep.
        jobs: Jobs by row.
    """

    name: str
    table: str
    metrics: tuple[str, ...]
    jobs: Mapping[str, TrainingJob]


def plan(
    work_dir: str | Path,
    seed: int,
    settings: QuickstartSettings,
    tasks: Sequence[DownstreamTask] = (),
) -> list[Stage]:
    """What is trained for one seed, in this order."""
    from fineclip.scenes import VERSION  # NumPy, which --help need not load

    root = Path(work_dir).resolve() / f"seed{seed}"
    data = root / "scenes"

    def pretraining(
        run: str,
        method: str,
        epochs: int,
        lr: float,
        batch_size: int,
        start: TrainingJob | None = None,
    ) -> TrainingJob:
        options = {
            "data_root": data,
            "seed": seed,
            "max_epochs": epochs,
            "lr": lr,
            "batch_size": batch_size,
            "log_interval": 20,
            "load_from": start,
            "method": method,
        }
        return TrainingJob(
            root / run,
            "fineclip.experiments.training:train",
            {"config": RECIPE, "options": options, "amp": settings.amp, "progress": run},
            facts=[
                *(settings.images, settings.val_images, VERSION, dict(settings.scenes)),
                _content(RECIPE, *RECIPE.parent.glob("_base_/*.py")),
            ],
        )

    def task_job(task: DownstreamTask, row: str, start: TrainingJob) -> TrainingJob:
        arguments = {"data": data, "init_checkpoint": start, "seed": seed, "amp": settings.amp}
        return TrainingJob(
            root / task.name / row,
            task.function,
            {**arguments, **task.options},
            _content(*task.configs),
        )

    first = (settings.pretrain_epochs, settings.lr, settings.batch_size)
    later = (settings.epochs, settings.continue_lr, settings.continue_batch_size)
    clip = pretraining("clip", "clip", *first)
    runs = {
        "clip": clip,
        "clip_continued": pretraining("clip_continued", "clip", *later, clip),
        "fineclip": pretraining("fineclip", "fineclip", *later, clip),
    }
    stages = [Stage(run, MODELS, METRICS, {run: job}) for run, job in runs.items()]
    for task in tasks:
        jobs = {row: task_job(task, row, runs[source]) for row, source in SOURCES.items()}
        stages.append(Stage(task.name, task.name, task.metrics, jobs))
    return stages


def run_quickstart(
    work_dir: str | Path,
    *,
    seed: int = 0,
    settings: QuickstartSettings | None = None,
    tasks: Sequence[DownstreamTask] = (),
    stages: Sequence[str] | None = None,
    report: Report = lambda line: None,
) -> Results:
    """Makes scenes, and trains and evaluates stage by stage; finished stages are kept.

    A tiny CLIP is trained from scratch with the global loss alone (``clip``), then continued for
    the same number of steps with the global loss (``clip_continued``) and with FineCLIP's three
    losses (``fineclip``). Each task is then trained from both.

    Args:
        work_dir: Everything is written below this folder.
        seed: Seed of the scenes and of training.
        settings: Size of the experiment.
        tasks: What is trained on top of the CLIPs.
        stages: Which stages to run, None for all; the results of others are reused where they
            exist.
        report: Called with a few lines per stage.

    Returns:
        The metrics, as far as there are any.

    Raises:
        ValueError: An unknown stage, one whose predecessor has not been run, or a training failed.
    """
    known = (*STAGES, *(task.name for task in tasks))
    stages = known if stages is None else stages
    if unknown := sorted(set(stages) - set(known)):
        raise ValueError(f"unknown stage {', '.join(unknown)}; known: {', '.join(known)}")
    settings = settings or QuickstartSettings()
    root = Path(work_dir).resolve() / f"seed{seed}"
    data = root / "scenes"

    def say(stage: str, text: str) -> None:
        report(f"seed {seed}: {stage}: {text}")

    if "scenes" in stages:
        from fineclip.experiments.scenes import renew_scenes  # NumPy, which --help need not load

        start, before = time.monotonic(), _written_at(data)
        made = renew_scenes(
            data,
            images=settings.images,
            val_images=settings.val_images,
            seed=seed,
            workers=2,
            **settings.scenes,
        )
        counts = f"{made['train']['images']} + {made['val']['images']} images"
        seconds = time.monotonic() - start
        if _written_at(data) != before:
            write_atomically(root / _SCENES_SECONDS, json.dumps(seconds) + "\n")
        say("scenes", f"{counts} ({seconds:.0f} s)")
    planned = plan(work_dir, seed, settings, tasks)
    untold = list(planned)

    def tell() -> None:
        """Says what came out of stages, in their order, as far as nothing before is running."""
        while untold and all(
            job.result() is not None or untold[0].name not in stages
            for job in untold[0].jobs.values()
        ):
            stage = untold.pop(0)
            for row, job in stage.jobs.items():
                if found := job.result():
                    values = ", ".join(f"{m} {found['metrics'][m]:.1f}" for m in stage.metrics)
                    name = "" if row == stage.name else f"{row}: "
                    say(stage.name, f"{name}{values} ({found['seconds']:.0f} s)")

    chosen = [stage for stage in planned if stage.name in stages]
    # All cores for what everything else waits for, then one job per half of them.
    first = [stage for stage in chosen if stage.name == RUNS[0]]
    for group, workers in ((first, 1), ([stage for stage in chosen if stage not in first], 2)):
        _train(group, workers, data, tell, report)
    tell()
    results: Results = {}
    for stage in planned:
        rows = results.setdefault(stage.table, {})
        for row, job in stage.jobs.items():
            if found := job.result():
                rows[row] = {metric: found["metrics"][metric] for metric in stage.metrics}
    return results


def _train(
    stages: Sequence[Stage],
    workers: int,
    data: Path,
    tell: Callable[[], None],
    report: Report,
) -> None:
    """Trains what is missing of stages, side by side as soon as what they start from is there."""
    jobs = {job: stage.name for stage in stages for job in stage.jobs.values()}
    missing = [job for job in jobs if job.result() is None]
    for job in missing:
        for need in job.needs:
            if need not in jobs and need.checkpoint() is None:
                raise ValueError(
                    f"stage {jobs[job]} needs stage {need.folder.name} with the same settings: "
                    f"{need.folder} does not hold it"
                )
    if missing and not data.is_dir():
        raise ValueError(f"stage {jobs[missing[0]]} needs stage scenes: {data} is missing")
    if len(missing) > 1:
        root = data.parent
        names = ", ".join(str(job.folder.relative_to(root)) for job in missing)
        report(f"training {names}, {workers} at a time (logs: {root}/**/{LOG})")
    threads = max(1, (os.cpu_count() or 1) // workers)
    for _ in run_side_by_side(missing, workers=workers, threads=threads, show=True):
        tell()
    failed = [
        f"training in {job.folder} failed: {job.last_words()} ({job.folder / LOG})"
        for job in missing
        if job.result() is None and all(need.checkpoint() is not None for need in job.needs)
    ]
    if failed:
        raise ValueError("; ".join(failed))


def stage_seconds(
    work_dir: str | Path,
    seed: int,
    settings: QuickstartSettings,
    tasks: Sequence[DownstreamTask] = (),
) -> dict[str, float]:
    """Wall time of each finished stage: of its longest training, as they run side by side.

    Args:
        work_dir: As for :func:`run_quickstart`, like the others.
        seed: Which seed.
        settings: Size of the experiment.
        tasks: What is trained on top of the CLIPs.
    """
    found: dict[str, float] = {}
    scenes = Path(work_dir) / f"seed{seed}" / _SCENES_SECONDS
    if scenes.is_file():
        found["scenes"] = json.loads(scenes.read_text())
    for stage in plan(work_dir, seed, settings, tasks):
        results = [job.result() for job in stage.jobs.values()]
        if all(results):
            found[stage.name] = max(result["seconds"] for result in results if result)
    return found


def _written_at(scenes: Path) -> int | None:
    manifest = scenes / "scenes.json"
    return manifest.stat().st_mtime_ns if manifest.is_file() else None


def _content(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()


def aggregate(by_seed: Mapping[int, Results]) -> dict[str, dict[str, dict[str, Statistic]]]:
    """Mean and deviation by table, row and metric, of rows that every seed has.

    Args:
        by_seed: What :func:`run_quickstart` returned, by seed.
    """
    first, *others = by_seed.values()
    return {
        table: {
            row: summarize([values, *(other[table][row] for other in others)], values)
            for row, values in rows.items()
            if all(row in other[table] for other in others)
        }
        for table, rows in first.items()
    }


def summarize_quickstart(
    by_seed: Mapping[int, Results], seconds: Mapping[int, Mapping[str, float]] | None = None
) -> dict[str, Any]:
    """``{run: {metric: mean}, task: {row: {metric: mean}}}`` and, by seed, the same in ``seeds``.

    Args:
        by_seed: What :func:`run_quickstart` returned, by seed.
        seconds: What :func:`stage_seconds` returned, by seed, for ``seconds``: stage by stage, of
            all seeds together.
    """
    means = {
        table: {row: {m: s["mean"] for m, s in found.items()} for row, found in rows.items()}
        for table, rows in aggregate(by_seed).items()
    }

    def flat(tables: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        tasks = {name: rows for name, rows in tables.items() if name != MODELS}
        return {**tables[MODELS], **tasks}

    spent: dict[str, float] = {}
    for stages in (seconds or {}).values():
        for stage, value in stages.items():
            spent[stage] = spent.get(stage, 0) + value
    return {
        **flat(means),
        "seconds": {stage: round(value, 1) for stage, value in spent.items()},
        "seeds": {str(seed): flat(found) for seed, found in by_seed.items()},
    }


def quickstart_tables(by_seed: Mapping[int, Results]) -> list[str]:
    """The Markdown tables: mean and, with several seeds, standard deviation.

    Args:
        by_seed: What :func:`run_quickstart` returned, by seed.
    """
    tables = []
    for table, rows in aggregate(by_seed).items():
        if rows:
            metrics = list(next(iter(rows.values())))
            head = (MODELS, *TITLES) if table == MODELS else (f"{table} from", *metrics)
            cells = ((row, *(cell(found[m]) for m in metrics)) for row, found in rows.items())
            tables.append(markdown_table(head, cells))
    return tables


def plot_curves(work_dir: str | Path, seed: int, out: str | Path) -> None:
    """Draws the losses of all runs over training steps.

    Args:
        work_dir: Folder given to :func:`run_quickstart`.
        seed: Which seed's runs.
        out: PNG file to write.
    """
    root = Path(work_dir) / f"seed{seed}"
    plot_losses({run: root / run for run in RUNS}, LOSSES, out)
