"""Means over seeds of an ablation, as JSON, as Markdown and as a figure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from fineclip.files import replacing, write_atomically

METRICS = ("box_top1", "box_top5", "i2t_r1", "t2i_r1")
COSTS = ("seconds_per_epoch", "peak_memory_bytes")

_TITLES = ("row", "box Top1", "box Top5", "I2T R@1", "T2I R@1", "s / epoch", "peak MB", "seeds")


def summarize_row(
    name: str, by_seed: Mapping[int, Mapping[str, Any]], *, with_cost: bool = True
) -> dict[str, Any]:
    """Mean and standard deviation of one row.

    Args:
        name: Name of the row.
        by_seed: Per seed what :mod:`fineclip.experiments.measured_training` wrote.
        with_cost: False for the start weights: their epochs are not those of the other rows.

    Returns:
        ``name``, ``seeds``, and for each of :data:`METRICS` (percent) and :data:`COSTS`
        ``{"mean", "std"}``. The deviation is that of a sample, None for a single seed; both are
        None without cost.
    """
    values = {metric: [m["metrics"][metric] for m in by_seed.values()] for metric in METRICS}
    values |= {cost: [m[cost] for m in by_seed.values()] if with_cost else [] for cost in COSTS}
    return {
        "name": name,
        **{
            key: {
                "mean": mean(numbers) if numbers else None,
                "std": stdev(numbers) if len(numbers) > 1 else None,
            }
            for key, numbers in values.items()
        },
        "seeds": list(by_seed),
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of :func:`summarize_row` as a Markdown table: mean ± standard deviation."""
    lines = [f"| {' | '.join(_TITLES)} |", f"|{'---|' * len(_TITLES)}"]
    for row in rows:
        cells = [row["name"], *(_cell(row[metric]) for metric in METRICS)]
        cells.append(_cell(row["seconds_per_epoch"]))
        cells.append(_cell(row["peak_memory_bytes"], scale=1e-6, digits=0))
        cells.append(" ".join(map(str, row["seeds"])))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: Mapping[str, float | None], scale: float = 1, digits: int = 1) -> str:
    if value["mean"] is None:
        return "-"
    spread = "" if value["std"] is None else f" ± {scale * value['std']:.{digits}f}"
    return f"{scale * value['mean']:.{digits}f}{spread}"


def write_results(work_dir: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes ``results.json``, ``results.md`` and, where there are rows, ``results.png``.

    Args:
        work_dir: An existing folder.
        rows: Rows of :func:`summarize_row`.
    """
    work_dir = Path(work_dir)
    write_atomically(work_dir / "results.json", json.dumps({"rows": list(rows)}, indent=2) + "\n")
    write_atomically(work_dir / "results.md", table(rows) + "\n")
    if rows:
        plot(rows, work_dir / "results.png")


def plot(rows: Sequence[Mapping[str, Any]], out: str | Path) -> None:
    """Draws box Top1 of all rows, and box Top1 against image-to-text retrieval.

    Args:
        rows: Rows of :func:`summarize_row`, at least one.
        out: PNG file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    bars, points = figure.subplots(1, 2)
    names = [row["name"] for row in rows]
    colors = [f"C{index % 10}" for index in range(len(rows))]
    bars.barh(
        names,
        [row["box_top1"]["mean"] for row in rows],
        xerr=[row["box_top1"]["std"] or 0 for row in rows],
        color=colors,
    )
    bars.invert_yaxis()  # the table's order from the top
    bars.set(xlabel="box Top1 (%)")
    # Rows that are one training under several names share a point, and so its label.
    labels: dict[tuple[float, float], list[int]] = {}
    for index, row in enumerate(rows):
        place = (row["box_top1"]["mean"], row["i2t_r1"]["mean"])
        labels.setdefault(place, []).append(index)
    for place, indices in labels.items():
        points.plot(*place, "o", color=colors[indices[0]])
        label = ", ".join(names[index] for index in indices)
        points.annotate(label, place, xytext=(4, 4), textcoords="offset points", fontsize=8)
    points.margins(0.15)
    points.set(xlabel="box Top1 (%)", ylabel="I2T R@1 (%)")
    for axis in (bars, points):
        axis.grid(alpha=0.3)
    with replacing(out) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
