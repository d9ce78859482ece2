"""One HTML page on a fine-tuning: what it has won, what it has lost, and the mixes in between."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fineclip.experiments.examining import SIDES
from fineclip.files import write_atomically
from fineclip.reporting.curves import line_figure
from fineclip.reporting.page import Cell, color_key, document, grid, html_table, paragraph

REPORT = "report.html"

_TITLES = {"own": "own classes", "kept": "classes of the reference"}
_COLORS = {"own": "#1f77b4", "kept": "#d95f02"}


def write_finetuning_report(summary: Mapping[str, Any], folder: str | Path) -> Path:
    """Writes ``report.html``, which needs nothing beside it.

    Args:
        summary: What :func:`fineclip.experiments.finetuning.run_finetuning` returned.
        folder: Where to.

    Returns:
        The file.

    Raises:
        OSError: It cannot be written.
    """
    sections = {
        "Before and after": _before_and_after(summary),
        "Mixes of start and fine-tuned weights": _curve(summary),
        "Old and new classes asked for together": _together(summary),
        "What ran": _what_ran(summary),
    }
    page = document(
        f"Fine-tuning on {Path(summary['data']).name}",
        [paragraph(_in_short(summary))],
        ((title, "\n".join(parts)) for title, parts in sections.items()),
    )
    file = Path(folder) / REPORT
    write_atomically(file, page)
    return file


def _in_short(summary: Mapping[str, Any]) -> str:
    own, kept = summary["own"], summary["kept"]
    return (
        f"Own classes: {_scores(own['before'])} before, {_scores(own['after'])} after. "
        f"Of what the start scored on the reference, {kept['share']:.0%} is kept."
    )


def _scores(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in scores.items())


def _before_and_after(summary: Mapping[str, Any]) -> Iterator[str]:
    rows = []
    for side in SIDES:
        states = [summary[side]["before"], summary["plain"][side], summary[side]["after"]]
        for name in states[0]:
            values = [state.get(name) for state in states]
            rows.append((f"{_TITLES[side]}: {name}", [_number(value) for value in values]))
    mixed = summary["alpha"]["chosen"] != 1
    head = ["percent", "start", "fine-tuned", "chosen mix" if mixed else "result"]
    yield html_table("Scores on the images that nothing was chosen by", head, rows)


def _number(value: float | None) -> Cell:
    return Cell("-" if value is None else f"{value:.1f}")


def _curve(summary: Mapping[str, Any]) -> Iterator[str]:
    alpha = summary["alpha"]
    points = alpha["curve"]
    if len(points) > 2:
        lines = [
            ("own", _COLORS["own"], "solid", [(p["alpha"], p["own_score"]) for p in points]),
            (
                "kept",
                _COLORS["kept"],
                "solid",
                [(p["alpha"], 100 * p["kept_share"]) for p in points],
            ),
        ]
        yield color_key(
            [
                ("score of own classes, percent", _COLORS["own"], "solid"),
                ("share of the reference score that is kept, percent", _COLORS["kept"], "solid"),
            ]
        )
        yield grid([line_figure("scores of mixes", "alpha", lines)])
    yield html_table(
        "Scores of mixes on the images to choose by, percent",
        ["alpha", *(f"{side}: {name}" for side in SIDES for name in points[0][side]), "kept share"],
        (
            (
                f"{point['alpha']:g}",
                [
                    *(_number(point[s].get(name)) for s in SIDES for name in points[0][s]),
                    Cell(
                        f"{100 * point['kept_share']:.0f}", best=point["alpha"] == alpha["chosen"]
                    ),
                ],
            )
            for point in points
        ),
    )
    yield paragraph(f"Chosen: alpha {alpha['chosen']:g}, by this rule: {alpha['rule']}.")


def _together(summary: Mapping[str, Any]) -> Iterator[str]:
    calibration = summary["calibration"]
    names = [(side, name) for side in SIDES for name in calibration["uncalibrated"][side]]
    yield html_table(
        "One's own and the reference's classes asked for at once, percent",
        ["", *(f"{side}: {name}" for side, name in names)],
        (
            (title, [_number(calibration[state][side].get(name)) for side, name in names])
            for title, state in (
                ("as trained", "uncalibrated"),
                (f"logits of own classes {calibration['offset']:+g}", "calibrated"),
            )
        ),
    )
    yield paragraph(
        "The offset was chosen on the images to choose by: the highest harmonic mean of both "
        "sides. It is not part of the weights."
    )


def _what_ran(summary: Mapping[str, Any]) -> Iterator[str]:
    images = ", ".join(f"{count} {name}" for name, count in summary["images"].items())
    facts = {
        "task": summary["task"],
        "start": summary["start"],
        "own data": summary["data"],
        "reference": summary["reference"],
        "what keeps the start's knowledge": ", ".join(summary["keep"]) or "nothing",
        "schedule": summary["recipe"],
        "images": images,
        "seed": str(summary["seed"]),
        "seconds": ", ".join(f"{name} {value:.0f}" for name, value in summary["seconds"].items()),
    }
    rows = [(name, [Cell(value, number=False)]) for name, value in facts.items()]
    yield html_table("Settings", ["", ""], rows)
