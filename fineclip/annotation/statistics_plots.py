"""Pictures of a data set's statistics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fineclip.annotation.coverage import HOW, LEVELS, Coverage
from fineclip.annotation.statistics import DatasetStatistics
from fineclip.annotation.tallies import Tally
from fineclip.files import replacing

_BARS = 40
_WORDS = 25
_TAIL = 0.01  # share of the numbers that the last bar takes along
_COLORS: dict[str, str] = {
    **dict(zip(LEVELS, ("#2ca02c", "#e0a030", "#b0b0b0"), strict=True)),
    **dict(zip(HOW, ("#1f77b4", "#7fb3dd", "#d95f02"), strict=True)),
}


def plot_statistics(statistics: DatasetStatistics, folder: str | Path) -> list[Path]:
    """Draws sizes, lengths and words, and for each vocabulary what captions name of it.

    Args:
        statistics: What is drawn.
        folder: Where ``overview.png`` and ``coverage_NAME.png`` are written.

    Returns:
        The files.
    """
    folder = Path(folder)
    files = [folder / "overview.png"]
    _save(_overview(statistics), files[0])
    for coverage in statistics.coverages:
        files.append(folder / f"coverage_{coverage.vocabulary.name}.png")
        _save(_coverage(coverage), files[-1])
    return files


def _overview(statistics: DatasetStatistics) -> Figure:
    figure = Figure(figsize=(13, 10), layout="constrained")
    axes = figure.subplots(3, 3).ravel()
    shown = {
        **statistics.tallies,
        "words of a caption": statistics.captions.lengths,
        "words of a region caption": statistics.region_captions.lengths,
    }
    for axis, (name, tally) in zip(axes, shown.items(), strict=False):
        _histogram(axis, name, tally)
    texts = statistics.region_captions if statistics.region_captions.words else statistics.captions
    words = texts.common_words(_WORDS)
    axes[-1].barh([word for word, _ in words][::-1], [count for _, count in words][::-1])
    axes[-1].tick_params(axis="y", labelsize=6)
    axes[-1].set_title("most frequent words", fontsize=10)
    return figure


def _histogram(axis: Axes, name: str, tally: Tally) -> None:
    """Bars of a tally; its longest tail shares the last one."""
    axis.set_title(name, fontsize=10)
    values = sorted(tally.counts)
    if not values:
        axis.text(0.5, 0.5, "none", ha="center", va="center")
        axis.set_axis_off()
        return
    total, seen, last = sum(tally.counts.values()), 0, values[-1]
    for value in values:
        seen += tally.counts[value]
        if seen >= (1 - _TAIL) * total:
            last = value
            break
    width = max(1, -(-(last - values[0] + 1) // _BARS))
    bars: dict[int, int] = {}
    for value, count in tally.counts.items():
        place = (min(value, last) - values[0]) // width
        bars[place] = bars.get(place, 0) + count
    middles = [values[0] - 0.5 + (place + 0.5) * width for place in bars]
    axis.bar(middles, list(bars.values()), width)
    if last < values[-1]:
        axis.set_xlabel(f"the last bar holds all up to {values[-1]}", fontsize=7)


def _coverage(coverage: Coverage) -> Figure:
    """Levels as one bar; below, captions by category, most first."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(1, 5))
    levels, left = coverage.levels(), 0
    for level, count in levels.items():
        top.barh(0, count, left=left, color=_COLORS[level], label=f"{level}: {count}")
        left += count
    top.set_title(f"{len(coverage.categories)} categories of {coverage.vocabulary.name}")
    top.legend(ncols=len(levels), loc="upper center", bbox_to_anchor=(0.5, 0.0), fontsize=8)
    top.set_axis_off()
    ranked = sorted(coverage.categories, key=lambda one: -one.total)
    below: Sequence[int] = [0] * len(ranked)
    for how in HOW:
        heights = [one.captions[how] for one in ranked]
        bottom.bar(range(len(ranked)), heights, 1.0, bottom=below, color=_COLORS[how], label=how)
        below = [low + high for low, high in zip(below, heights, strict=True)]
    bottom.set_yscale("symlog")
    bottom.set_ylabel("captions that name it")
    bottom.set_xlabel("categories, most captions first")
    bottom.legend(fontsize=8)
    if len(ranked) <= 2 * _BARS:
        names = [one.name for one in ranked]
        bottom.set_xticks(range(len(ranked)), names, rotation=90, fontsize=6)
    return figure


def _save(figure: Figure, file: Path) -> None:
    with replacing(file) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
