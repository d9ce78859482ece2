"""What ran, when and on what, and which settings set runs apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fineclip.configuration.reading import read_config
from fineclip.reporting.page import Cell, cross_table, folded, html_table, paragraph
from fineclip.reporting.sources import KINDS, SEGMENTATION, Run, flat_settings

UNRECORDED = "not recorded"

_CONFIGS = Path(__file__).parents[2] / "configs"
_FOLDERS = ("fineclip", "clipself", "detection")  # of configurations that trainings have
_NAME = re.compile(r"[\w-][\w.-]*")
_SETTINGS = 60  # rows of a table of settings
_MACHINE = ("device", "cores", "system", "python", "torch")
_SAID_ONCE = ("kind", "config", "toolkit", *_MACHINE)  # where it is the same of all runs
# Where a run wrote and how it was started, which is told apart.
_NO_SETTING = re.compile(r"work_dir|launcher|resume|load_from|OUTPUT_DIR|VERSION")


def what_ran(runs: Sequence[Run]) -> Iterator[str]:
    """A row for each run, and what is the same of all of them once."""
    facts = [_facts_of(run) for run in runs]
    known = {name: {row[name] for row in facts} - {None} for name in facts[0]}
    same = [
        name
        for name in _SAID_ONCE
        if len(runs) > 1 and len(known[name]) == 1 and all(row[name] for row in facts)
    ]
    columns = [name for name in known if known[name] and name not in same]
    trainings = [run for run in runs if run.place.is_dir()]
    silent = [run.name for run in trainings if not run.parts]
    if silent:
        of = "" if len(silent) == len(trainings) else f" of {', '.join(silent)}"
        yield paragraph(
            f"Command, commit and machine{of} are {UNRECORDED}: there is no run.json that can be "
            "read. Trainings of earlier versions left none."
        )
    yield html_table(
        "Runs",
        ["run", *columns],
        (
            (run.name, [_cell(row[name] or UNRECORDED) for name in columns])
            for run, row in zip(runs, facts, strict=True)
        ),
    )
    if same:
        yield paragraph(
            "All of them: " + ", ".join(f"{name} {facts[0][name]}" for name in same) + "."
        )


def _cell(text: str) -> Cell:
    return Cell(text, number=False)


def _facts_of(run: Run) -> dict[str, str | None]:
    """By name; of a run in several parts, all that they say."""
    machines = [_object(part.get("machine")) for part in run.parts]
    kits = [_object(part.get("toolkit")) for part in run.parts]
    begun = [part.get("started") for part in run.parts[:1]]
    return {
        "kind": run.kind,
        "status": run.status,
        "config": run.config,
        "seed": _one_after_the_other(
            [part.get("seed") for part in run.parts]
            or [run.settings.get("seed", run.settings.get("SEED"))]
        ),
        "started": _one_after_the_other(
            str(time).replace("T", " ").replace("+00:00", " UTC") for time in begun
        ),
        "took": None if run.seconds is None else _duration(run.seconds),
        "command": _one_after_the_other(part.get("command") for part in run.parts),
        "toolkit": _one_after_the_other(
            f"{kit.get('version')}, {_commit(kit)}" for kit in kits if kit
        ),
        **{name: _one_after_the_other(box.get(name) for box in machines) for name in _MACHINE},
    }


def _one_after_the_other(values: Iterable[Any]) -> str | None:
    return "; then ".join(dict.fromkeys(str(v) for v in values if v is not None)) or None


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _commit(kit: Mapping[str, Any]) -> str:
    commit = str(kit.get("commit") or "no commit")[:12]
    return f"{commit} with changes" if kit.get("changed") else commit


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def settings(runs: Sequence[Run]) -> Iterator[str]:
    """What sets runs of a kind apart from each other, and from the configuration they share.

    Runs that differ in their seed alone are one, the first of them.
    """
    for kind in KINDS:
        columns: dict[str, Mapping[str, str]] = {}
        some = [run for run in runs if run.kind == kind and run.settings]
        names = {run.config for run in some}
        base = base_settings(names.pop() or "") if len(names) == 1 else None
        for run in some:
            columns.setdefault(run.row, run.settings)
        if base is not None:
            columns[f"configs/{base[0]}"] = base[1]
        if len(columns) > 1:
            yield _differences(kind, columns)


def _differences(kind: str, columns: Mapping[str, Mapping[str, str]]) -> str:
    """What is not the same in all columns; what differs between runs before what is the base's."""
    found = list(columns.values())

    def values(key: str, of: Sequence[Mapping[str, str]] = found) -> set[str]:
        return {settings.get(key, "null") for settings in of}

    keys = [
        key
        for key in dict.fromkeys(key for settings in found for key in settings)
        if len(values(key)) > 1 and not _NO_SETTING.search(key)
    ]
    keys.sort(key=lambda key: len(values(key, found[:-1])) == 1)
    # Parts of Python configurations are made from what stands at their top.
    top = [key for key in keys if kind == SEGMENTATION or "." not in key]
    inner = [key for key in keys if key not in top]

    def table(caption: str, keys: Sequence[str]) -> str:
        rest = len(keys) - _SETTINGS
        return cross_table(
            f"{caption}{f', and {rest} more' if rest > 0 else ''}",
            keys[:_SETTINGS],
            list(columns),
            lambda row, column: _cell(found[column].get(keys[row], "-")),
        )

    text = table(f"Settings of {kind} that differ", top) if top else ""
    if inner:
        text += folded(
            f"{len(inner)} settings within parts of {kind}",
            table(f"Settings within parts of {kind} that differ", inner),
        )
    return text or paragraph(f"The settings of {kind} do not differ.")


def base_settings(name: str) -> tuple[str, dict[str, str]] | None:
    """Settings of a training's configuration of that name in ``configs/``, and its path there.

    Only the project's own files are read, which are programs; what lies beside weights is not run.

    Args:
        name: As a run calls its configuration.

    Returns:
        None where there is no such file, or more than one, or it needs options to be read.
    """
    if not _NAME.fullmatch(name):
        return None
    files = [f for folder in _FOLDERS if (f := _CONFIGS / folder / f"{name}.py").is_file()]
    if len(files) != 1:
        return None
    try:
        content = read_config(files[0]).to_dict()
    except (ValueError, OSError):
        return None
    return str(files[0].relative_to(_CONFIGS)), flat_settings(content)
