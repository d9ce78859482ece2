"""What runs reach: means over seeds, final metrics side by side, and beside published figures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from fineclip.experiments.results import COSTS, METRICS, cell, summarize
from fineclip.reporting.page import Cell, cross_table, folded, html_table, paragraph
from fineclip.reporting.published import published_tables
from fineclip.reporting.sources import KINDS, Run

_NO_SCORE = re.compile(
    r"(^|[_/])(regions|classes|skipped|images|texts|seeds|sd)$|(^|[_/])time$|_bytes$|seconds"
)
_MAIN = (
    *METRICS,
    "novel_ap50",
    "base_ap50",
    "all_ap50",
    "mIoU",
    "mIoU-unseen",
    "mAcc",
    "miou",
    "macc",
    "novel_miou",
)


def is_score(metric: str) -> bool:
    """Whether more of a metric is better; the others are counts, times, sizes and deviations."""
    return not _NO_SCORE.search(metric)


def ordered(names: Iterable[str]) -> list[str]:
    """The metrics that tables are about, then the other scores, then what is none."""

    def place(name: str) -> tuple[bool, int, str]:
        short = name.rpartition("/")[2]
        return (not is_score(name), _MAIN.index(short) if short in _MAIN else len(_MAIN), name)

    return sorted(names, key=place)


def _main(names: Iterable[str]) -> list[str]:
    return [name for name in ordered(names) if name.rpartition("/")[2] in _MAIN] or ordered(names)


def final_metrics(runs: Sequence[Run]) -> Iterator[str]:
    """A table of the main metrics of each kind of runs, and of all others to unfold."""
    several = False
    for kind in KINDS:
        some = [run for run in runs if run.kind == kind and run.metrics]
        several |= len(some) > 1
        names = ordered({name for run in some for name in run.metrics})
        main = _main(names)
        rest = [name for name in names if name not in main]
        if main:
            yield _side_by_side(f"Final metrics of {kind}", main, some)
        if rest:
            table = _side_by_side(f"Other metrics of {kind}", rest, some)
            yield folded(f"{len(rest)} other metrics of {kind}", table)
    if several:
        yield paragraph("The highest score of those beside each other has a coloured ground.")


def _side_by_side(caption: str, names: Sequence[str], runs: Sequence[Run]) -> str:
    known = {name: [run.metrics[name] for run in runs if name in run.metrics] for name in names}
    best = {
        name: max(values)
        for name, values in known.items()
        if is_score(name) and len(set(values)) > 1
    }

    def entry(row: int, column: int) -> Cell:
        name, value = names[row], runs[column].metrics.get(names[row])
        if value is None:
            return Cell("-")
        return Cell(_figure(name, value, max(known[name])), best=value == best.get(name))

    return cross_table(caption, names, [run.name for run in runs], entry)


def _figure(metric: str, value: float, highest: float) -> str:
    if metric.endswith("_bytes"):
        return f"{value / 2**30:.2f} GiB"
    if not is_score(metric) and value.is_integer():
        return f"{value:.0f}"
    return f"{value:.4f}" if 0 < highest < 1 else f"{value:.2f}"  # a fraction, or percent


def beside_published(runs: Sequence[Run]) -> Iterator[str]:
    """A paper's table with rows of ours in it, where one is of these runs' configurations."""
    for table in published_tables():
        some = [run for run in runs if table.fits(run)]
        if not some:
            continue
        rows = [(f"{name} (published)", values) for name, values in table.rows]
        for run in some:
            found = [run.metrics.get(metric) for metric in table.metrics]
            rows.append((run.name, [None if v is None else v * table.scale for v in found]))
        yield html_table(
            f"{table.title}, percent",
            ["row", *table.metrics.values()],
            ((name, [Cell("-" if v is None else f"{v:.1f}") for v in row]) for name, row in rows),
        )
        yield paragraph(
            f"Published by {table.source}: {table.data}. These are the papers' models on the "
            "papers' data; whether a run had the same data and start weights, its settings say."
        )


def means_over_seeds(runs: Sequence[Run]) -> Iterator[str]:
    """Mean and standard deviation of runs that differ in their seed alone."""
    for kind in KINDS:
        groups: dict[str, list[Mapping[str, float]]] = {}
        for run in runs:
            if run.kind == kind and run.metrics:
                groups.setdefault(run.row, []).append(run.metrics)
        known = {name for some in groups.values() for metrics in some for name in metrics}
        names = [*_main(known), *(name for name in COSTS if name in known)]
        if names and any(len(some) > 1 for some in groups.values()):
            yield html_table(
                f"{kind.capitalize()}: mean and standard deviation over seeds",
                ["", *names, "seeds"],
                (
                    (row, [*_means(some, names), Cell(str(len(some)))])
                    for row, some in groups.items()
                ),
            )


def _means(some: Sequence[Mapping[str, float]], names: Sequence[str]) -> Iterator[Cell]:
    for name, value in summarize(some, names).items():
        if name.endswith("_bytes") and value["mean"] is not None:
            yield Cell(f"{cell(value, 2**-30, 2)} GiB")
        else:
            yield Cell(cell(value))
