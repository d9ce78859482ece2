"""Means over seeds, as JSON, as Markdown and as figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from fineclip.files import replacing, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = ("box_top1", "box_top5", "i2t_r1", "t2i_r1")
COSTS = ("seconds_per_epoch", "peak_memory_bytes")

TITLES = ("box Top1", "box Top5", "I2T R@1", "T2I R@1")

TABLE = dict(zip(METRICS, TITLES, strict=True))
"""Titles of an ablation's columns by metric, unless its config names others."""

Statistic = Mapping[str, float | None]


def summarize(
    by_seed: Iterable[Mapping[str, float | None]], keys: Iterable[str]
) -> dict[str, Statistic]:
    """Mean and standard deviation over seeds.

    Args:
        by_seed: Values by key, for each seed.
        keys: Those to summarize.

    Returns:
        ``{key: {"mean", "std"}}``. The deviation is that of a sample, None for a single value; both
        are None where no seed has a value.
    """
    seeds = list(by_seed)
    values = {key: [v for row in seeds if (v := row.get(key)) is not None] for key in keys}
    return {
        key: {
            "mean": mean(found) if found else None,
            "std": stdev(found) if len(found) > 1 else None,
        }
        for key, found in values.items()
    }


def cell(value: Statistic, scale: float = 1.0, digits: int = 1) -> str:
    """A value of :func:`summarize` as text: mean ± standard deviation."""
    figures = (figure for figure in (value["mean"], value["std"]) if figure is not None)
    return " ± ".join(f"{scale * figure:.{digits}f}" for figure in figures) or "-"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells as a Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join([lines[0], f"|{'---|' * len(head)}", *lines[1:]])


def summarize_row(
    name: str,
    by_seed: Mapping[int, Mapping[str, Any]],
    *,
    metrics: Iterable[str] = METRICS,
    with_cost: bool = True,
) -> dict[str, Any]:
    """Mean and standard deviation of one row of an ablation.

    Args:
        name: Name of the row.
        by_seed: Per seed the result of its job, see :class:`fineclip.experiments.engine.Outcome`.
        metrics: Those to keep.
        with_cost: False for the start weights: their epochs are not those of the other rows.

    Returns:
        ``name``, ``seeds``, and for each of the metrics (percent) and :data:`COSTS`
        ``{"mean", "std"}``; costs are None without cost.
    """
    costs = [{key: m[key] if with_cost else None for key in COSTS} for m in by_seed.values()]
    return {
        "name": name,
        **summarize((found["metrics"] for found in by_seed.values()), metrics),
        **summarize(costs, COSTS),
        "seeds": list(by_seed),
    }


def ablation_table(rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, str] = TABLE) -> str:
    """Rows of :func:`summarize_row` as a Markdown table, with the titles of its metrics."""
    return markdown_table(
        ("row", *metrics.values(), "s / epoch", "peak MB", "seeds"),
        (
            (
                row["name"],
                *(cell(row[metric]) for metric in metrics),
                cell(row["seconds_per_epoch"]),
                cell(row["peak_memory_bytes"], scale=1e-6, digits=0),
                " ".join(map(str, row["seeds"])),
            )
            for row in rows
        ),
    )


def write_ablation(
    work_dir: str | Path,
    rows: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, str] = TABLE,
) -> None:
    """Writes ``results.json``, ``results.md`` and, where there are rows, ``results.png``.

    Args:
        work_dir: The folder; made if it is missing.
        rows: Rows of :func:`summarize_row`.
        metrics: Titles by metric.
    """
    work_dir = Path(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(work_dir / "results.json", json.dumps({"rows": list(rows)}, indent=2) + "\n")
    write_atomically(work_dir / "results.md", ablation_table(rows, metrics) + "\n")
    if rows:
        plot_ablation(rows, work_dir / "results.png", metrics)


def plot_ablation(
    rows: Sequence[Mapping[str, Any]], out: str | Path, metrics: Mapping[str, str] = TABLE
) -> None:
    """Draws the first metric of all rows, alone and against two others.

    Those are box Top1, against image-to-text retrieval (the first metric of the second half) and
    against what it costs; a row without costs is no point of the latter.

    Args:
        rows: Rows of :func:`summarize_row`, at least one.
        out: PNG file to write.
        metrics: Titles by metric.
    """
    keys, titles = list(metrics), list(metrics.values())
    first, other = keys[0], keys[len(keys) // 2]
    figure = new_figure(16, 4.5)
    bars, retrieval, cost = figure.subplots(1, 3)
    bars.barh(
        [row["name"] for row in rows],
        [row[first]["mean"] for row in rows],
        xerr=[row[first]["std"] or 0 for row in rows],
        color=[f"C{index % 10}" for index in range(len(rows))],
    )
    bars.invert_yaxis()  # the table's order from the top
    bars.set(xlabel=f"{titles[0]} (%)")
    _draw_points(retrieval, rows, first, other)
    retrieval.set(xlabel=f"{titles[0]} (%)", ylabel=f"{metrics[other]} (%)")
    _draw_points(cost, rows, "seconds_per_epoch", first)
    cost.set(xlabel="s / epoch", ylabel=f"{titles[0]} (%)")
    save_figure(figure, out, (bars, retrieval, cost))


def _draw_points(axis: Any, rows: Sequence[Mapping[str, Any]], x: str, y: str) -> None:
    """A labelled point for each row that has both values."""
    # Rows that are one training under several names share a point, and so its label.
    labels: dict[tuple[float, float], list[int]] = {}
    for index, row in enumerate(rows):
        if row[x]["mean"] is not None:
            labels.setdefault((row[x]["mean"], row[y]["mean"]), []).append(index)
    for place, indices in labels.items():
        axis.plot(*place, "o", color=f"C{indices[0] % 10}")
        label = ", ".join(rows[index]["name"] for index in indices)
        axis.annotate(label, place, xytext=(4, 4), textcoords="offset points", fontsize=8)
    axis.margins(0.15)


def plot_losses(runs: Mapping[str, Path], losses: Mapping[str, str], out: str | Path) -> None:
    """Draws losses over training steps.

    Args:
        runs: Work dirs by name.
        losses: Titles of the panels by name of the logged loss.
        out: PNG file to write.
    """
    figure = new_figure(10, 3.5)
    panels = figure.subplots(1, len(losses), squeeze=False)[0]
    for axis, (key, title) in zip(panels, losses.items(), strict=True):
        for index, (name, folder) in enumerate(runs.items()):
            points = _logged(folder, key)
            if points:
                axis.plot(*zip(*points, strict=True), label=name, color=f"C{index}")
                axis.legend()
        axis.set(title=title, xlabel="step", ylabel="loss")
    save_figure(figure, out, panels)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    from matplotlib.figure import Figure  # a second, which tables need not take

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, out: str | Path, axes: Iterable[Any]) -> None:
    """Writes a figure, as PNG or what else its suffix says, with a grid on its axes."""
    for axis in axes:
        axis.grid(alpha=0.3)
    with replacing(out) as temporary:
        figure.savefig(temporary, dpi=120, format=Path(out).suffix[1:] or "png")


def _logged(folder: Path, key: str) -> list[tuple[int, float]]:
    """(step, value) of one logged value; of a step that was repeated, the newest."""
    points: dict[int, float] = {}
    for file in sorted(folder.glob("*/vis_data/scalars.json")):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            if key in entry:
                points[int(entry["step"])] = entry[key]
    return sorted(points.items())
