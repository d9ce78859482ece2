"""What each means of keeping a start's knowledge costs and keeps, over several starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from fineclip.experiments.examining import kept_share, main_score
from fineclip.experiments.finetuning import SUMMARY, FineTuning, Keep, run_finetuning
from fineclip.experiments.results import cell, markdown_table, summarize
from fineclip.files import read_json

MEANS: Mapping[str, frozenset[Keep]] = {
    "plain": frozenset({"interpolate"}),
    "frozen": frozenset({"frozen"}),
    "rehearse": frozenset({"rehearse", "interpolate"}),
}
"""Trainings by name; those with mixes give two rows, the result and its chosen mix."""


def run_means(
    settings: FineTuning,
    folder: Path,
    means: Iterable[str] = tuple(MEANS),
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Fine-tunes one start by each means; what is finished is kept.

    Args:
        settings: What is to be done, but for ``keep``.
        folder: Every run has a folder in it, and what the start itself scores another.
        means: Names of :data:`MEANS`.
        report: Called with a line per stage.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: See :func:`fineclip.experiments.finetuning.run_finetuning`.
    """
    for name in means:
        one = FineTuning(**{**vars(settings), "keep": MEANS[name]})

        def say(line: str, name: str = name) -> None:
            report(f"{folder.name}: {name}: {line}")

        run_finetuning(one, folder / name, say, before=folder.resolve() / "before")


def means_table(folders: Iterable[Path]) -> str:
    """The Markdown table of what is finished: means and standard deviations over folders.

    Args:
        folders: Of :func:`run_means`; the plain run of each is what the others are held against.
    """
    found: dict[str, list[dict[str, float]]] = {}
    for folder in folders:
        runs = {name: _summary(folder / name) for name in MEANS}
        plain = runs["plain"]
        if plain is None:
            continue
        best = main_score(plain["plain"]["own"])
        before = {side: plain[side]["before"] for side in ("own", "kept")}
        rows: dict[str, Mapping[str, Any]] = {"start": before}
        for name, summary in runs.items():
            if summary is not None:
                rows[name] = summary["plain"]
                if "interpolate" in MEANS[name]:
                    rows[f"{name}, mixed"] = {side: summary[side]["after"] for side in before}
        for row, scores in rows.items():
            found.setdefault(row, []).append(_figures(scores, before["kept"], best))
    names = list(dict.fromkeys(key for rows in found.values() for row in rows for key in row))
    return markdown_table(
        ["percent", *names, "seeds"],
        (
            [row, *(cell(value) for value in summarize(rows, names).values()), str(len(rows))]
            for row, rows in found.items()
        ),
    )


def _summary(folder: Path) -> dict[str, Any] | None:
    file = folder / SUMMARY
    return read_json(file, "summary") if file.is_file() else None


def _figures(
    scores: Mapping[str, Mapping[str, float]], before: Mapping[str, float], best: float
) -> dict[str, float]:
    own = main_score(scores["own"])
    return {
        "own": own,
        "of plain fine-tuning's": 100 * own / best if best else 0.0,
        **{f"kept {name}": value for name, value in scores["kept"].items()},
        "of the start's": 100 * kept_share(scores["kept"], before),
    }
