"""Curves of runs, as pictures without a word in them: words belong to the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fineclip.reporting.metrics import is_score, ordered
from fineclip.reporting.page import color_key, grid, heading, paragraph, picture
from fineclip.reporting.sources import KINDS, Points, Run

COLORS = (
    *("#1f77b4", "#d95f02", "#2ca02c", "#c2185b", "#7b52ab", "#8c564b", "#e377c2", "#6b6b6b"),
    *("#a6a000", "#17a2b8"),
)
"""Of rows, by their place in the report; they repeat after the last, in the next style of lines."""

STYLES = ("solid", "dashed", "dotted")

_FIRST = ("loss", "total_loss", "lr")
_PANELS = 16  # of one kind of curves
_POINTS = 6000  # of a picture
_MOST_POINTS, _LEAST_POINTS = 300, 20  # of a curve


def curves(runs: Sequence[Run]) -> Iterator[str]:
    """Losses, learning rate and validation over steps; runs that differ in seed share a colour."""
    for kind in KINDS:
        drawn = [run for run in runs if run.kind == kind and (run.train or run.val)]
        if drawn:
            yield heading(kind.capitalize(), 3)
            yield from _of_a_kind(drawn)


def _of_a_kind(runs: Sequence[Run]) -> Iterator[str]:
    rows = list(dict.fromkeys(run.row for run in runs))
    yield color_key((row, *_look_of(place)) for place, row in enumerate(rows))
    if len(rows) < len(runs):
        yield paragraph("Runs that differ in their seed alone have one colour.")
    logged = {name for run in runs for name in run.train if "loss" in name or name == "lr"}
    losses = sorted(logged, key=lambda name: (name not in _FIRST, name == "lr", name))
    # A single validation is told by the final metrics.
    tested = {name for run in runs for name, points in run.val.items() if len(points) > 1}
    scores = [name for name in ordered(tested) if is_score(name)]
    for names, of_each in ((losses, [r.train for r in runs]), (scores, [r.val for r in runs])):
        yield grid(
            curve_figure(
                name,
                [
                    (rows.index(run.row), run.name, values[name])
                    for run, values in zip(runs, of_each, strict=True)
                    if name in values
                ],
            )
            for name in names[:_PANELS]
        )
        if len(names) > _PANELS:
            yield paragraph(f"{len(names) - _PANELS} more are not drawn.")


def _look_of(place: int) -> tuple[str, str]:
    """Colour and style of the lines of the row at a place in the report."""
    return COLORS[place % len(COLORS)], STYLES[place // len(COLORS) % len(STYLES)]


def curve_figure(name: str, found: Sequence[tuple[int, str, Points]]) -> str:
    """The curves of one logged value, of several runs in one picture.

    Args:
        name: Of the value.
        found: (place of the run's row in the report, name of the run, (step, value) points, at
            least one).
    """
    most = max(_LEAST_POINTS, min(_MOST_POINTS, _POINTS // len(found)))
    lines = []
    for place, run, points in found:
        shown = points[:: -(-len(points) // most)]
        if shown[-1] != points[-1]:
            shown = [*shown, points[-1]]
        lines.append((run, *_look_of(place), shown))
    return line_figure(name, "step", lines, integers=True)


def line_figure(
    name: str,
    across: str,
    lines: Sequence[tuple[str, str, str, Points]],
    *,
    integers: bool = False,
) -> str:
    """Lines in one picture.

    Args:
        name: Of what is drawn upwards.
        across: Of what is drawn across.
        lines: Name, CSS colour, CSS style and (x, y) points of each, one at least.
        integers: Across there are whole numbers alone.
    """
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "fineclip"}):
        figure = Figure(figsize=(4, 2.6), layout="constrained")
        axis = figure.subplots()
        for _, color, style, points in lines:
            x, y = zip(*points, strict=True)
            marker = "." if len(points) < 20 else ""
            axis.plot(x, y, color=color, marker=marker, linestyle=style, linewidth=1.2)
        axis.set_xlabel(across)
        if integers:
            axis.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axis.grid(alpha=0.3)
        content = BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    ends = "; ".join(
        f"{line} from {points[0][1]:.4g} to {points[-1][1]:.4g}" for line, _, _, points in lines
    )
    alt = f"{name} over {across}{'s' if integers else ''}: {ends}"
    return picture(content.getvalue(), "image/svg+xml", alt, name)
