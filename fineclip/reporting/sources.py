"""What a work dir says about its run: settings, curves, metrics, and how far it came.

Nothing here is trusted to be whole: a run that was killed leaves half lines, and what cannot be
read becomes a note of the run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fineclip.annotations.predictions import is_predictions
from fineclip.configuration.plain import PLAIN_CONFIG
from fineclip.experiments.results import COSTS
from fineclip.run_record import RECORD, read_record
from fineclip.weights import CONFIG_FILE
from fineclip.work_dir import INTERRUPTED, POINTER

PRETRAINING, DETECTION, SEGMENTATION = "pretraining", "detection", "segmentation"
KINDS = (PRETRAINING, DETECTION, SEGMENTATION)

HOLDS = (
    "a run's folder holds plain_config.json (pretraining, detection), config.yaml (segmentation), "
    "run.json, the scalars.json or metrics.json of its curves, or the JSON of evaluate_clip.py or "
    "test.py; the folder of a quickstart or an ablation holds such folders"
)

_DEPTH = 4  # folders of runs within the one that is named
_LARGEST_JSON = 8 << 20  # of results, bytes
_PER_CLASS = re.compile(r"(IoU|ACC)-(.*)", re.DOTALL)
_SEED = re.compile(r"(?<![^/])seed\d+/")
_ALIASES = 10  # of a yaml: each may multiply what it stands for
_LARGEST = 1e30  # of a number
_NOT_LOGGED = {"epoch", "iter", "step", "iteration", "eta_seconds"}
_IN_TRAINING = {"lr", "loss", "total_loss", "base_lr"}

Points = list[tuple[int, float]]


@dataclass
class Run:
    """One training or evaluation, as far as its files tell.

    Attributes:
        place: Its folder; of an evaluation, its file.
        name: Its name in the report.
        kind: One of :data:`KINDS`.
        status: How far it came, in words.
        config: Name of its configuration, None where it is not known.
        settings: Values of the configuration by dotted key, as text.
        parts: Of its record (:mod:`fineclip.run_record`), empty for runs of earlier versions.
        seconds: How long it took; None where it is not known.
        train: Logged values over steps, by name.
        val: Validation metrics over steps, by name.
        metrics: Final metrics by name.
        per_class: IoU in percent by data set and class, of segmentation.
        confused: Pairs of classes that segmentation takes for each other, by data set.
        predictions: Files of saved predictions.
        notes: What is broken or missing.
    """

    place: Path
    name: str = ""
    kind: str = PRETRAINING
    status: str = "unknown"
    config: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    parts: list[dict[str, Any]] = field(default_factory=list)
    seconds: float | None = None
    train: dict[str, Points] = field(default_factory=dict)
    val: dict[str, Points] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    confused: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    predictions: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def row(self) -> str:
        """Its name without the folder of its seed: what runs of an experiment share."""
        return _SEED.sub("", self.name)


def find_runs(folders: Sequence[str | Path]) -> tuple[list[Run], list[Path]]:
    """The runs in some folders: each is one run's, or holds folders of runs.

    Returns:
        The runs, each with the name that it has below what the folders share; folders without any.

    Raises:
        FileNotFoundError: A folder does not exist.
        ValueError: None of them holds a run.
    """
    named = {Path(folder).resolve(): Path(folder) for folder in folders}
    runs: dict[Path, Run] = {}
    empty = []
    for folder, said in named.items():
        if not folder.is_dir():
            raise FileNotFoundError(f"work dir {said} does not exist, or is no folder; {HOLDS}")
        found = list(_runs_below(folder, 0))
        runs |= {run.place: run for run in found}
        if not found:
            empty.append(said)
    if not runs:
        raise ValueError(f"{', '.join(map(str, empty))}: no run is there; {HOLDS}")
    above = os.path.commonpath(named)
    for run in runs.values():
        inside = os.path.relpath(run.place, above)
        run.name = run.place.name if inside == "." else inside
    return list(runs.values()), empty


def _read_object(file: Path, notes: list[str]) -> dict[str, Any]:
    """A JSON object; what is none is noted, and empty."""
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"{file.name} cannot be read: {str(error) or type(error).__name__}")
        return {}
    if not isinstance(content, dict):
        notes.append(f"{file.name} holds no JSON object")
        return {}
    return content


def _runs_below(folder: Path, depth: int) -> Iterator[Run]:
    """The run that a folder is, or those below it, and the evaluations that lie in it."""
    is_run = _is_run(folder)
    if is_run:
        yield _read_run(folder)
    yield from _evaluations(folder, predictions=not is_run)
    if is_run or depth == _DEPTH or (folder / "scenes.json").is_file():  # a data set
        return
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _runs_below(Path(entry.path), depth + 1)


def _is_run(folder: Path) -> bool:
    known = (PLAIN_CONFIG, RECORD, "job.json", POINTER, CONFIG_FILE)
    if any((folder / name).is_file() for name in known):
        return True
    return _logs_iterations(folder) or any(folder.glob("*/vis_data/scalars.json"))


def _logs_iterations(folder: Path) -> bool:
    """Whether metrics.json is detectron2's log: test.py may have been told to write such a file."""
    return "iteration" in next(_lines(folder / "metrics.json"), {})


def _read_run(folder: Path) -> Run:
    run = Run(folder)
    run.parts = read_record(folder)
    if (folder / RECORD).is_file() and not run.parts:
        run.notes.append(f"{RECORD} cannot be read")
    try:
        _read_settings(run)
    except RecursionError:
        run.notes.append("its configuration has too many brackets within each other")
    _read_curves(run)
    _read_results(run)
    run.predictions = [file for file in sorted(folder.glob("*.json")) if is_predictions(file)]
    _tell_status(run)
    return run


def _read_settings(run: Run) -> None:
    names = [part["config"] for part in run.parts if isinstance(part.get("config"), str)]
    run.config = names[-1] if names else None
    file = run.place / CONFIG_FILE
    if file.is_file():
        run.kind = SEGMENTATION
        try:
            content = _read_yaml(file)
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            run.notes.append(f"{CONFIG_FILE} cannot be read: {reason}")
            content = {}
    elif _logs_iterations(run.place):
        run.kind, content = SEGMENTATION, {}
    else:
        document = _read_object(run.place / PLAIN_CONFIG, run.notes)
        run.config = str(document.get("name") or run.config or "") or None
        content = document.get("config")
    run.settings = flat_settings(content) if isinstance(content, dict) else {}
    model = run.settings.get("model.type", "")
    if model and "Pretrainer" not in model:
        run.kind = DETECTION


def _read_yaml(file: Path) -> Any:
    text = file.read_text(encoding="utf-8")
    if sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)) > _ALIASES:
        raise ValueError(f"more than {_ALIASES} aliases")
    return yaml.safe_load(text)


def flat_settings(value: Any, key: str = "") -> dict[str, str]:
    """Nested settings by dotted key, values as text; it knows plain_config.json's tuples and paths.

    Args:
        value: Dicts and lists of plain values.
        key: Where it stands.
    """
    if isinstance(value, Mapping):
        if set(value) == {"__tuple__"}:
            return flat_settings(value["__tuple__"], key)
        if set(value) == {"__path__"}:
            return {key: str(value["__path__"])}
        found: dict[str, str] = {}
        for name, item in value.items():
            found |= flat_settings(item, f"{key}.{name}".lstrip("."))
        return found
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        return flat_settings({str(place): item for place, item in enumerate(value)}, key)
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str):
        value = json.dumps(value, default=str)
    return {key: value}


def _read_curves(run: Run) -> None:
    files = sorted(run.place.glob("*/vis_data/scalars.json"))
    if run.kind == SEGMENTATION or not files:
        files += [file for file in [run.place / "metrics.json"] if file.is_file()]
    train: dict[str, dict[int, float]] = {}
    val: dict[str, dict[int, float]] = {}
    broken, endless = 0, set()
    for file in files:
        for entry in _lines(file):
            step = entry.get("iteration", entry.get("step"))
            if type(step) is not int or not 0 <= step < 1 << 53:
                broken += 1
                continue
            trains = bool(_IN_TRAINING & entry.keys())
            for name, value in entry.items():
                if name in _NOT_LOGGED or not isinstance(value, int | float):
                    continue
                figure = finite_number(value)
                if figure is None:
                    endless.add(name)
                    continue
                tested = not trains or "/" in name
                (val if tested else train).setdefault(short_name(name), {})[step] = figure
    run.train = {name: sorted(points.items()) for name, points in train.items()}
    run.val = {
        name: sorted(points.items())
        for name, points in val.items()
        if name not in ("time", "data_time")
    }
    if broken:
        run.notes.append(f"{broken} lines of its curves cannot be read")
    if endless:
        run.notes.append(f"not finite at some steps: {', '.join(sorted(endless))}")
    if run.kind == PRETRAINING and not run.settings and any("rpn" in name for name in run.train):
        run.kind = DETECTION


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file of JSON lines; an empty one for each line that is none."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        yield {}
        return
    for line in filter(str.strip, text.splitlines()):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = {}
        yield entry if isinstance(entry, dict) else {}


def short_name(metric: str) -> str:
    """A metric without the prefix that mmengine puts before those of COCO."""
    return metric.removeprefix("coco/")


def _read_results(run: Run) -> None:
    """The final metrics: of the job, of segmentation's evaluation, or of the last validation."""
    result = _read_object(run.place / "result.json", run.notes)
    run.seconds = finite_number(result.get("seconds"))
    if run.seconds is None and run.parts:
        run.seconds = sum(finite_number(part.get("seconds")) or 0 for part in run.parts)
    found: dict[str, float] = {}
    for file in sorted(run.place.glob("inference/*/sem_seg_evaluation.json")):
        content, dataset = _read_object(file, run.notes), file.parent.name
        for name, value in _numbers(content.get("sem_seg")).items():
            of_class = _PER_CLASS.fullmatch(name)
            if not of_class:
                found[f"{dataset}/{name}"] = value
            elif of_class[1] == "IoU":
                run.per_class.setdefault(dataset, {})[of_class[2]] = value
        confused = content.get("confused")
        if isinstance(confused, list):
            run.confused[dataset] = [pair for pair in confused if isinstance(pair, dict)]
    last = {name: points[-1][1] for name, points in run.val.items()}
    run.metrics = _numbers(result.get("metrics")) or found or last
    run.metrics |= _numbers({name: result[name] for name in COSTS if name in result})
    # COCO's and LVIS's evaluators say -1 where nothing is annotated.
    run.metrics = {name: value for name, value in run.metrics.items() if value != -1}


def _numbers(values: Any) -> dict[str, float]:
    found = values.items() if isinstance(values, dict) else ()
    return {
        short_name(name): figure
        for name, value in found
        if (figure := finite_number(value)) is not None
    }


def finite_number(value: Any) -> float | None:
    """A value of a JSON as a number that can be summed and drawn; None if it is none."""
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if usable and abs(value) <= _LARGEST else None


def _tell_status(run: Run) -> None:
    folder, last = run.place, run.parts[-1] if run.parts else {}
    step = last.get("step")
    steps = [points[-1][0] for points in (*run.train.values(), *run.val.values())]
    at = step if isinstance(step, int) else max(steps, default=None)
    where = "" if at is None else f" (step {at})"
    if last.get("finished") is True if last else (folder / "result.json").is_file():
        run.status = f"finished{where}"
    elif (folder / INTERRUPTED).is_file():
        run.status = f"interrupted{where}"
    elif last or (folder / "job.json").is_file():
        run.status = f"unfinished{where}"
    elif run.kind == SEGMENTATION:
        run.status = (
            f"{'finished' if (folder / 'model_final.pth').is_file() else 'unfinished'}{where}"
        )
    else:
        most = run.settings.get("train_cfg.max_epochs", run.settings.get("max_epochs", ""))
        done = [int(f.stem[6:]) for f in folder.glob("epoch_*.pth") if f.stem[6:].isdigit()]
        if most.isdigit():
            whole = max(done, default=0) >= int(most)
            run.status = f"{'finished' if whole else 'unfinished'}{where}"
        else:
            run.status = f"unknown{where}"
    if not run.train and not run.metrics:
        run.notes.append("it has logged nothing yet")


def _evaluations(folder: Path, *, predictions: bool) -> Iterator[Run]:
    """The results that evaluate_clip.py and test.py were told to write into a folder.

    Args:
        folder: The folder.
        predictions: Files of predictions stand for themselves.
    """
    for file in sorted(folder.glob("*.json")):
        if file.name in (RECORD, PLAIN_CONFIG, "result.json", "job.json"):
            continue
        if is_predictions(file):
            if predictions:
                yield Run(file, status="predictions", predictions=[file])
            continue
        content = _small_object(file)
        if {"model", "tasks", "metrics"} <= content.keys():
            metrics = content["metrics"]
            said = [
                str(content[key])
                for key in ("model", "pretrained", "data_root")
                if content.get(key)
            ]
            status = f"evaluated: {', '.join(said)}"
        else:
            metrics, status = content, "evaluated"
        if not isinstance(metrics, dict) or not metrics or "iteration" in metrics:
            continue
        if not all(type(value) in (int, float) for value in metrics.values()):
            continue
        run = Run(file, status=status, metrics=_numbers(metrics))
        if any("ap50" in name or "mAP" in name for name in run.metrics):
            run.kind = DETECTION
        yield run


def _small_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes()) if file.stat().st_size <= _LARGEST_JSON else None
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
