"""A trained model on data of one's own: examined, fine-tuned, examined again, and told.

Every stage is a job of :mod:`fineclip.experiments.engine` in the work dir: killed anywhere, the
same command goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fineclip.configuration.plain import PLAIN_CONFIG, read_plain_config
from fineclip.datasets.description import DataDescription, read_description
from fineclip.experiments.engine import TrainingJob, run_side_by_side
from fineclip.experiments.examining import KEPT_SHARE, WEIGHTS, kept_share, main_score
from fineclip.files import replacing, write_atomically
from fineclip.weights import CONFIG_FILE, config_beside, is_file_name, weights_file
from fineclip.work_dir import point_to

Keep = Literal["frozen", "rehearse", "interpolate"]
Task = Literal["clip", "detection", "segmentation"]
KEEP: tuple[Keep, ...] = ("frozen", "rehearse", "interpolate")
SUMMARY = "summary.json"
ALPHAS = tuple(round(0.1 * step, 1) for step in range(1, 11))
OFFSETS = (-2.0, -1.0, 0.0, 1.0, 2.0)

_STAGES = "stages"


@dataclass(frozen=True)
class FineTuner:
    """How a task does it: functions of jobs, which are imported where they run.

    Attributes:
        train: ``train(folder, start=..., data=..., seed=..., amp=..., frozen=..., rehearse=...,
            recipe=...)``.
        examine: ``examine(folder, start=..., data=..., reference=..., seed=..., trained=...,
            alphas=..., offsets=..., before=...)``; the last four after a training alone.
    """

    train: str
    examine: str


TUNERS: Mapping[Task, FineTuner] = {
    "clip": FineTuner(
        "fineclip.experiments.clip_finetuning:finetune_clip",
        "fineclip.experiments.clip_finetuning:examine_clip",
    ),
    "detection": FineTuner(
        "detection.finetuning.jobs:finetune_detector", "detection.finetuning.jobs:examine_detector"
    ),
    "segmentation": FineTuner(
        "segmentation.finetuning.jobs:finetune_segmenter",
        "segmentation.finetuning.jobs:examine_segmenter",
    ),
}


@dataclass(frozen=True)
class FineTuning:
    """What is to be done.

    Attributes:
        data: The description of one's own data.
        start: Checkpoint, or work dir of its training.
        keep: What keeps the start's knowledge; none of it: plain fine-tuning.
        rehearse: Description of the data that are rehearsed; None: those of the start's training.
        share: Of training images that are rehearsed.
        reference: Description of the data that tell what is kept; None: the start's own
            validation data.
        alphas: Shares of the fine-tuned weights on the curve, with ``"interpolate"``.
        offsets: Offsets of the new classes' logits to try.
        seed: Of training, and of the division of validation data.
        amp: Precision of the training.
        recipe: Overrides of the schedule: ``epochs``, ``batch_size``, ``lr``.
    """

    data: Path
    start: Path
    keep: frozenset[Keep] = frozenset()
    rehearse: Path | None = None
    share: float = 0.2
    reference: Path | None = None
    alphas: tuple[float, ...] = ALPHAS
    offsets: tuple[float, ...] = OFFSETS
    seed: int = 0
    amp: str | None = None
    recipe: Mapping[str, float] | None = None


def task_of(start: Path) -> Task:
    """What a start was trained for, by the configuration beside it.

    Raises:
        FileNotFoundError: There is no checkpoint, or no configuration.
        ValueError: It is a tag of published weights, or of no task that is known.
    """
    if not start.exists() and not is_file_name(str(start)):
        raise ValueError(
            f"--start {start}: expected a work dir or a checkpoint; from published weights, "
            "tools/train.py with --data F.yaml and configs/fineclip/own.py or "
            "configs/detection/own.py, or tools/train_segmentation.py with "
            "configs/segmentation/own.yaml train on your data first"
        )
    weights = weights_file(start)
    if config_beside(weights) is not None:
        return "segmentation"
    beside = weights.parent / PLAIN_CONFIG
    if not beside.is_file():
        raise FileNotFoundError(
            f"{weights.parent} holds neither {PLAIN_CONFIG} nor {CONFIG_FILE}: name the work dir "
            "of a training of ours, or a checkpoint in it"
        )
    kind = read_plain_config(beside).get("model", {}).get("type")
    tasks: dict[Any, Task] = {"FViT": "detection", "FineCLIPPretrainer": "clip"}
    if kind in tasks:
        return tasks[kind]
    raise ValueError(
        f"{beside} is of a {kind}; fine-tuning starts from a detector, a segmenter or a CLIP"
    )


def plan_finetuning(
    settings: FineTuning, work_dir: str | Path, before: Path | None = None
) -> dict[str, TrainingJob]:
    """The stages in their order: ``before``, ``training``, ``after``.

    Args:
        settings: What is to be done.
        work_dir: Stages are its folders.
        before: Folder of the first stage, where several runs share it.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: Data without what the task needs.
    """
    tuner = TUNERS[task_of(settings.start)]
    own = read_description(settings.data)
    asked_about = [own, *_described(settings.reference)]
    facts = [_fingerprint(weights_file(settings.start)), *_fingerprints(asked_about)]
    trained_on = [*facts, *_fingerprints(_described(settings.rehearse))]
    folder = Path(work_dir).resolve() / _STAGES
    common = {"start": str(settings.start), "data": str(own.file), "seed": settings.seed}
    asked = {**common, "reference": settings.reference and str(settings.reference)}
    training = TrainingJob(
        folder / "training",
        tuner.train,
        {
            **common,
            "amp": settings.amp,
            "frozen": "frozen" in settings.keep,
            "rehearse": _rehearsed(settings),
            "recipe": dict(settings.recipe or {}),
        },
        trained_on,
    )
    alphas = settings.alphas if "interpolate" in settings.keep else (1.0,)
    first = TrainingJob(before or folder / "before", tuner.examine, asked, facts)
    after = TrainingJob(
        folder / "after",
        tuner.examine,
        {
            **asked,
            "trained": training,
            "alphas": sorted({*alphas, 1.0}),
            "offsets": sorted({*settings.offsets, 0.0}),
            "before": first.folder,
        },
        facts,
    )
    return {"before": first, "training": training, "after": after}


def _rehearsed(settings: FineTuning) -> dict[str, Any] | None:
    if "rehearse" not in settings.keep:
        return None
    data = settings.rehearse and str(settings.rehearse)
    return {"data": data, "share": settings.share}


def run_finetuning(
    settings: FineTuning,
    work_dir: str | Path,
    report: Callable[[str], None] = lambda line: None,
    before: Path | None = None,
) -> dict[str, Any]:
    """Does all of it; what a call before has finished is kept.

    Args:
        settings: What is to be done.
        work_dir: Everything is written here: ``summary.json``, the chosen weights
            (``finetuned.pth`` and the configuration they are used with), and ``stages/``.
        report: Called with a line per stage.
        before: See :func:`plan_finetuning`.

    Returns:
        What ``summary.json`` holds.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: Data that do not fit, or a stage failed.
    """
    jobs = plan_finetuning(settings, work_dir, before)
    for name, job in jobs.items():
        if job.result() is None:
            for _ in run_side_by_side([job], show=True):
                pass
        found = job.result()
        if found is None:
            raise ValueError(f"stage {name} failed: {job.last_words()} ({job.folder})")
        report(f"{name}: {found['said']} ({found['seconds']:.0f} s)")
    summary = _summary(settings, jobs)
    folder = Path(work_dir)
    _take_weights(jobs["after"].folder, folder)
    write_atomically(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return summary


def _summary(settings: FineTuning, jobs: Mapping[str, TrainingJob]) -> dict[str, Any]:
    results = {name: job.result() or {} for name, job in jobs.items()}
    before, after = results["before"]["examined"], results["after"]["examined"]
    first = before["report"]
    kept = kept_share(after["after"]["kept"], first["kept"])
    return {
        "task": task_of(settings.start),
        "data": str(settings.data),
        "start": str(settings.start),
        "reference": str(settings.reference) if settings.reference else "validation of the start",
        "keep": [name for name in KEEP if name in settings.keep],
        "rehearsed": _rehearsed(settings),
        "seed": settings.seed,
        "recipe": results["training"]["said"],
        "images": before["images"],
        "own": {"before": first["own"], "after": after["after"]["own"]},
        "kept": {
            "before": first["kept"],
            "after": after["after"]["kept"],
            "share": kept,
        },
        "plain": after["plain"],
        "alpha": {
            "chosen": after["alpha"],
            "rule": f"best own score among mixes that keep {KEPT_SHARE:.0%} of the reference "
            "score; where none does, the best harmonic mean of both shares",
            "curve": [
                {
                    "alpha": float(alpha),
                    **scores,
                    "kept_share": kept_share(scores["kept"], before["choose"]["kept"]),
                    "own_score": main_score(scores["own"]),
                }
                for alpha, scores in after["curve"].items()
            ],
        },
        "calibration": {"offset": after["offset"], **after["together"]},
        "seconds": {name: round(found["seconds"], 1) for name, found in results.items()},
    }


def _take_weights(source: Path, folder: Path) -> None:
    """Puts the chosen weights, and what they are used with, where commands look for them."""
    for name in (PLAIN_CONFIG, CONFIG_FILE, WEIGHTS):
        if (source / name).is_file():
            with replacing(folder / name) as temporary:
                temporary.unlink(missing_ok=True)
                try:
                    os.link(source / name, temporary)
                except OSError:  # another file system, or one without links
                    shutil.copyfile(source / name, temporary)
    point_to(folder / WEIGHTS)


def _described(file: Path | None) -> list[DataDescription]:
    return [] if file is None else [read_description(file)]


def _fingerprints(descriptions: Sequence[DataDescription]) -> list[str]:
    """Of descriptions and their annotation files; label maps and images are too many."""
    files = [d.file for d in descriptions]
    named = [split.annotations for d in descriptions for split in d.splits.values()]
    return [_fingerprint(f) for f in (*files, *named) if f is not None and f.is_file()]


def _fingerprint(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            found.update(block)
    return found.hexdigest()
