"""The stages of :mod:`fineclip.experiments.finetuning` for detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detection.finetuning.config import (
    StartingDetector,
    continued_config,
    described_data,
    read_start,
)
from detection.finetuning.examiner import DetectorExaminer
from fineclip.configuration.plain import PLAIN_CONFIG
from fineclip.configuration.recipes import Recipe, recipe_for
from fineclip.datasets.description import DataDescription, read_description
from fineclip.engine import build_runner, load_config, prepare_training
from fineclip.engine.launch import Precision
from fineclip.experiments.engine import Outcome
from fineclip.experiments.examining import examination
from fineclip.files import read_json


def finetune_detector(
    folder: str | Path,
    *,
    start: str,
    data: str,
    seed: int = 0,
    amp: Precision | None = None,
    frozen: bool = False,
    rehearse: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> Outcome:
    """Continues a trained detector on one's own boxes; an interrupted call is continued.

    Args:
        folder: Work dir of the training.
        start: Work dir or checkpoint of the start.
        data: Description of one's own data.
        seed: Of the training.
        amp: Precision; None: float32.
        frozen: See :func:`detection.finetuning.config.continued_config`.
        rehearse: ``share`` and ``data``, a description; None there: the start's training data.
        recipe: Overrides of the schedule that follows from the number of images.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: Data or start do not fit.
    """
    detector, own = read_start(start), read_description(data)
    schedule = _schedule(own, detector.config.get("lr"), recipe or {})
    config = continued_config(
        detector,
        own.vocabulary,
        described_data(own, "train"),
        schedule,
        seed=seed,
        frozen=frozen,
        **_rehearsal(detector, rehearse),
    )
    config.custom_hooks.append({"type": "fineclip.ProgressBarHook", "description": "detector"})
    runner = build_runner(config, work_dir=folder, amp=amp, resume=True, used="refuse")
    prepare_training(runner)
    runner.train()
    return {
        "metrics": {},
        "checkpoint": f"epoch_{schedule.epochs}.pth",
        "said": schedule.said() + _rehearsal_said(rehearse),
    }


def _schedule(own: DataDescription, rate: float | None, recipe: Mapping[str, Any]) -> Recipe:
    annotations = own.require("train", "annotations").annotations
    images = len(read_json(str(annotations), "annotations")["images"])
    found = recipe_for(images, "detection", trained=True, lr=rate)
    found = replace(found, **{key: value for key, value in recipe.items() if value is not None})
    return replace(found, val_interval=found.epochs)  # it is examined once, at the end


def _rehearsal_said(rehearse: Mapping[str, Any] | None) -> str:
    return f"; {rehearse['share']:.0%} of all images are rehearsed" if rehearse else ""


def _rehearsal(detector: StartingDetector, rehearse: Mapping[str, Any] | None) -> dict[str, Any]:
    if rehearse is None:
        return {}
    if rehearse["data"] is None:
        return {"rehearsed": detector.training_data, "share": rehearse["share"]}
    described = read_description(rehearse["data"])
    return {
        "rehearsed": described_data(described, "train"),
        "rehearsed_vocabulary": described.vocabulary,
        "share": rehearse["share"],
    }


def examine_detector(
    folder: str | Path,
    *,
    start: str,
    data: str,
    reference: str | None,
    seed: int = 0,
    trained: str | None = None,
    alphas: Sequence[float] = (),
    offsets: Sequence[float] = (0.0,),
    before: str | None = None,
) -> Outcome:
    """Examines a start alone, or what was trained from it and its mixes with the start.

    Args:
        folder: Where answers are kept; ``finetuned.pth``, the chosen mix, is written here.
        start: Work dir or checkpoint of the start.
        data: Description of one's own data.
        reference: Description of the data that tell what is kept; None: the start's.
        seed: Of the division of validation images.
        trained: Checkpoint of what was trained from it; None: the start alone.
        alphas: Shares of its weights.
        offsets: See :func:`fineclip.experiments.examining.examine`.
        before: Folder of the start's own examination.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: Data or start do not fit.
    """
    folder = Path(folder)
    detector, own = read_start(start), read_description(data)
    if trained is None:
        schedule = recipe_for(1, "detection")  # nothing is trained with it
        config = continued_config(detector, own.vocabulary, {}, schedule, seed=seed)
    else:
        config = load_config(Path(trained).with_name(PLAIN_CONFIG))
    examiner = DetectorExaminer(
        config, detector, own, trained, reference=reference, folder=folder, seed=seed
    )
    return examination(folder, examiner, before=before, alphas=alphas, offsets=offsets)
