"""Means over seeds, as JSON, as Markdown and as figures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure

from fineclip.files import replacing, write_atomically

METRICS = ("box_top1", "box_top5", "i2t_r1", "t2i_r1")
COSTS = ("seconds_per_epoch", "peak_memory_bytes")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its head.
        key: Of the values in the rows.
        scale: Factor on them.
        digits: After the point.
    """

    title: str
    key: str
    scale: float = 1.0
    digits: int = 1


METRIC_COLUMNS = tuple(
    Column(title, key)
    for title, key in zip(("box Top1", "box Top5", "I2T R@1", "T2I R@1"), METRICS, strict=True)
)
ABLATION_COLUMNS = (
    *METRIC_COLUMNS,
    Column("s / epoch", "seconds_per_epoch"),
    Column("peak MB", "peak_memory_bytes", scale=1e-6, digits=0),
    Column("seeds", "seeds"),
)


def summarize(
    by_seed: Iterable[Mapping[str, float | None]], keys: Iterable[str]
) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation over seeds.

    Args:
        by_seed: Values by key, for each seed.
        keys: Those to summarize.

    Returns:
        ``{key: {"mean", "std"}}``. The deviation is that of a sample, None for a single value; both
        are None where no seed has a value.
    """
    by_seed = list(by_seed)
    values = {key: [v for row in by_seed if (v := row.get(key)) is not None] for key in keys}
    return {
        key: {
            "mean": mean(found) if found else None,
            "std": stdev(found) if len(found) > 1 else None,
        }
        for key, found in values.items()
    }


def markdown_table(
    corner: str, columns: Sequence[Column], rows: Mapping[str, Mapping[str, Any]]
) -> str:
    """Mean ± standard deviation as a Markdown table.

    Args:
        corner: Title of the names.
        columns: The other columns.
        rows: By name what :func:`summarize` returned, or a list of words under a column's key.
    """
    lines = [[corner, *(column.title for column in columns)]]
    lines += [
        [name, *(_cell(row[column.key], column) for column in columns)]
        for name, row in rows.items()
    ]
    head, *body = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([head, f"|{'---|' * len(lines[0])}", *body])


def _cell(value: Mapping[str, float | None] | Sequence[object], column: Column) -> str:
    if not isinstance(value, Mapping):
        return " ".join(map(str, value))
    if value["mean"] is None:
        return "-"
    figures = [value["mean"], *([] if value["std"] is None else [value["std"]])]
    return " ± ".join(f"{column.scale * figure:.{column.digits}f}" for figure in figures)


def summarize_row(
    name: str, by_seed: Mapping[int, Mapping[str, Any]], *, with_cost: bool = True
) -> dict[str, Any]:
    """Mean and standard deviation of one row of an ablation.

    Args:
        name: Name of the row.
        by_seed: Per seed the result of its job, see :class:`fineclip.experiments.engine.Outcome`.
        with_cost: False for the start weights: their epochs are not those of the other rows.

    Returns:
        ``name``, ``seeds``, and for each of :data:`METRICS` (percent) and :data:`COSTS`
        ``{"mean", "std"}``; costs are None without cost.
    """
    costs = [{key: m[key] if with_cost else None for key in COSTS} for m in by_seed.values()]
    return {
        "name": name,
        **summarize((found["metrics"] for found in by_seed.values()), METRICS),
        **summarize(costs, COSTS),
        "seeds": list(by_seed),
    }


def ablation_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of :func:`summarize_row` as a Markdown table."""
    return markdown_table("row", ABLATION_COLUMNS, {row["name"]: row for row in rows})


def write_ablation(work_dir: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes ``results.json``, ``results.md`` and, where there are rows, ``results.png``.

    Args:
        work_dir: The folder; made if it is missing.
        rows: Rows of :func:`summarize_row`.
    """
    work_dir = Path(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(work_dir / "results.json", json.dumps({"rows": list(rows)}, indent=2) + "\n")
    write_atomically(work_dir / "results.md", ablation_table(rows) + "\n")
    if rows:
        plot_ablation(rows, work_dir / "results.png")


def plot_ablation(rows: Sequence[Mapping[str, Any]], out: str | Path) -> None:
    """Draws box Top1 of all rows, and box Top1 against image-to-text retrieval.

    Args:
        rows: Rows of :func:`summarize_row`, at least one.
        out: PNG file to write.
    """
    figure = Figure(figsize=(11, 4.5), layout="constrained")
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
    save_figure(figure, out, (bars, points))


def plot_losses(runs: Mapping[str, Path], losses: Mapping[str, str], out: str | Path) -> None:
    """Draws losses over training steps.

    Args:
        runs: Work dirs by name.
        losses: Titles of the panels by name of the logged loss.
        out: PNG file to write.
    """
    figure = Figure(figsize=(10, 3.5), layout="constrained")
    panels = figure.subplots(1, len(losses), squeeze=False)[0]
    for axis, (key, title) in zip(panels, losses.items(), strict=True):
        for index, (name, folder) in enumerate(runs.items()):
            points = _logged(folder, key)
            if points:
                axis.plot(*zip(*points, strict=True), label=name, color=f"C{index}")
                axis.legend()
        axis.set(title=title, xlabel="step", ylabel="loss")
    save_figure(figure, out, panels)


def save_figure(figure: Figure, out: str | Path, axes: Iterable[Any]) -> None:
    """Writes a figure as PNG, with a grid on its axes."""
    for axis in axes:
        axis.grid(alpha=0.3)
    with replacing(out) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def _logged(folder: Path, key: str) -> list[tuple[int, float]]:
    """(step, value) of one logged value; of a step that was repeated, the newest."""
    points: dict[int, float] = {}
    for file in sorted(folder.glob("*/vis_data/scalars.json")):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            if key in entry:
                points[int(entry["step"])] = entry[key]
    return sorted(points.items())
