"""How time and memory grow: curves of points, each measured once in a process of its own."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fineclip.experiments.measuring import call_function
from fineclip.experiments.results import new_figure, save_figure
from fineclip.files import read_json, write_atomically

AXES = {"seconds": "seconds", "bytes": "memory, MiB"}
_COLUMNS = 4
_POINT_SECONDS = 600
_LEAST_RANGE = 4  # of a logarithmic axis


@dataclass(frozen=True)
class Line:
    """One thing that is measured at several sizes.

    Attributes:
        name: What the legend calls it.
        function: ``"package.module:function"``, see
            :func:`fineclip.experiments.measuring.call_function`; it returns what
            :func:`fineclip.experiments.measuring.measure_cost` does.
        varies: The argument that changes.
        values: Its values, ascending.
        arguments: The others, JSON values.
        factor: The axis shows ``varies`` divided by this.
    """

    name: str
    function: str
    varies: str
    values: Sequence[float]
    arguments: Mapping[str, Any]
    factor: float = 1


@dataclass(frozen=True)
class Curve:
    """Lines over one quantity.

    Attributes:
        name: A word.
        label: Of the axis.
        lines: What is drawn.
    """

    name: str
    label: str
    lines: Sequence[Line]


def measure_curves(
    curves: Sequence[Curve],
    folder: Path,
    *,
    facts: Mapping[str, Any],
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measures all points that the folder does not hold yet.

    Args:
        curves: What to measure.
        folder: Each point is a file in it.
        facts: What figures depend on beside the arguments: ``device``, and what else there is;
            points of other facts are measured anew.
        report: Called with a line per point.

    Returns:
        ``facts``; ``curves``: per curve ``name``, ``label`` and ``lines``, each with ``name``,
        ``points`` (``x``, ``seconds``, of the CPU if it computes, and ``bytes`` that a call adds;
        or ``error``) and ``exponents``, see :func:`exponents`.
    """
    facts = {**facts, "torch": torch.__version__}
    found: list[dict[str, Any]] = []
    for curve in curves:
        lines = []
        for line in curve.lines:
            points = []
            for value in line.values:
                name = f"{curve.name}: {line.name}, {value / line.factor:g}"
                arguments = {**line.arguments, line.varies: value}
                cost = _point(folder, f"{curve.name}-", line.function, arguments, facts, name)
                points.append({"x": value / line.factor, **cost})
                report(f"{name}: {cost.get('error') or _in_words(cost)}")
            lines.append({"name": line.name, "points": points, "exponents": exponents(points)})
        found.append({"name": curve.name, "label": curve.label, "lines": lines})
    return {"facts": facts, "curves": found}


def _point(
    folder: Path,
    prefix: str,
    function: str,
    arguments: Mapping[str, Any],
    facts: Mapping[str, Any],
    name: str,
) -> dict[str, Any]:
    """Figures of one point, from its file where there is one; an ``error`` is not kept."""
    call = {"function": function, "arguments": arguments, "facts": facts}
    text = json.dumps(call, sort_keys=True)
    file = folder / f"{prefix}{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    if file.is_file():
        return read_json(file, "point of a curve")["cost"]
    try:
        full = call_function(function, arguments, name, limit=_POINT_SECONDS)
    except RuntimeError as error:
        return {"error": str(error).removeprefix(f"{name}: ")}
    # On a CPU, other work on the machine would count in seconds of the clock.
    clock = "cpu_seconds_per_step" if facts["device"] == "cpu" else "seconds_per_step"
    cost = {"seconds": full[clock], "bytes": full["activation_bytes"]}
    write_atomically(file, json.dumps({**call, "cost": cost}, indent=2) + "\n")
    return cost


def _in_words(cost: Mapping[str, float]) -> str:
    return f"{cost['seconds']:.3f} s, {cost['bytes'] / 2**20:.1f} MiB"


def exponents(points: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Powers of x that seconds and bytes grow with: slopes in a plot of logarithms.

    Returns:
        For ``seconds`` and ``bytes`` the slope of the line of least squares through ``all`` points
        and that of the ``last`` two; None where fewer than two points are positive.
    """
    found = {}
    for key in AXES:
        positive = [point for point in points if point.get(key, 0) > 0]
        logs = [(math.log(point["x"]), math.log(point[key])) for point in positive]
        found[key] = {"all": _slope(logs), "last": _slope(logs[-2:])}
    return found


def _slope(points: Sequence[tuple[float, float]]) -> float | None:
    if len(points) < 2:
        return None
    x_mean, y_mean = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    spread = sum((x - x_mean) ** 2 for x, _ in points)
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / spread


def exponent_table(result: Mapping[str, Any]) -> str:
    """The exponents of all lines as Markdown: through all points, and of the last two."""
    lines = ["| grows with | what | time | at the end | memory | at the end |"]
    lines.append("|---|---|---|---|---|---|")
    for curve in result["curves"]:
        for line in curve["lines"]:
            cells = [
                "-" if value is None else f"{value:.2f}"
                for key in AXES
                for value in line["exponents"][key].values()
            ]
            lines.append(f"| {curve['label']} | {line['name']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot_growth(result: Mapping[str, Any], *out: Path) -> None:
    """Draws all curves on a page, time and memory side by side.

    Args:
        result: Of :func:`measure_curves`.
        *out: Files to write, PNG or SVG by their suffix.
    """
    panels = [(curve, key) for curve in result["curves"] for key in AXES]
    rows = math.ceil(len(panels) / _COLUMNS)
    figure = new_figure(2.6 * _COLUMNS, 2.2 * rows)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for axis in axes[len(panels) :]:
        axis.remove()
    for axis, (curve, key) in zip(axes, panels, strict=False):
        scale = 2**20 if key == "bytes" else 1
        for line in curve["lines"]:
            points = [(p["x"], p[key] / scale) for p in line["points"] if p.get(key, 0) > 0]
            if points:
                axis.loglog(*zip(*points, strict=True), "o-", label=line["name"], markersize=3)
        ticks = sorted({point["x"] for line in curve["lines"] for point in line["points"]})
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], rotation=45, fontsize=8)
        axis.set_xticks([], minor=True)
        low, high = axis.get_ylim()
        if high < _LEAST_RANGE * low:  # noise must not look like growth
            middle = math.sqrt(low * high)
            axis.set_ylim(middle / _LEAST_RANGE**0.5, middle * _LEAST_RANGE**0.5)
        on_cpu = key == "seconds" and result["facts"]["device"] == "cpu"
        axis.set(xlabel=curve["label"], ylabel=("CPU " if on_cpu else "") + AXES[key])
        axis.legend(fontsize=7)
    for file in out:
        save_figure(figure, file, axes[: len(panels)])
