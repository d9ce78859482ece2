"""One page on one or several runs: what ran, its curves, its metrics, and what it gets wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path

from fineclip.files import write_atomically
from fineclip.reporting.curves import curves
from fineclip.reporting.metrics import beside_published, final_metrics, means_over_seeds
from fineclip.reporting.mistakes import mistakes
from fineclip.reporting.page import document, paragraph
from fineclip.reporting.sources import Run, find_runs
from fineclip.reporting.what_ran import settings, what_ran

_FOLDERS = 6  # that are named at the top


def write_report(folders: Sequence[str | Path], out: str | Path, *, pictures: int = 6) -> Path:
    """Writes a report on runs as one HTML file that needs nothing beside it.

    Args:
        folders: Work dirs of trainings, or folders of such: quickstarts, ablations.
        out: The file.
        pictures: Best and worst pictures of each file of predictions.

    Returns:
        The file.

    Raises:
        FileNotFoundError: A folder does not exist.
        ValueError: No folder holds a run.
        OSError: The file cannot be written.
    """
    runs, empty = find_runs(folders)
    sections = {
        "Means over seeds": means_over_seeds(runs),
        "Metrics": final_metrics(runs),
        "Beside published figures": beside_published(runs),
        "Curves": curves(runs),
        "Categories and pictures": mistakes(runs, pictures),
        "What ran": what_ran(runs),
        "Settings": settings(runs),
    }
    page = document(
        f"Report on {len(runs)} runs" if len(runs) > 1 else f"Report on {runs[0].name}",
        _opening(folders, runs, empty),
        ((title, "\n".join(parts)) for title, parts in sections.items()),
    )
    write_atomically(out, page)
    return Path(out)


def _opening(
    folders: Sequence[str | Path], runs: Sequence[Run], empty: Sequence[Path]
) -> Iterator[str]:
    """When and of what it was made, and what is broken or not at its end."""
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    first = ", ".join(map(str, folders[:_FOLDERS]))
    more = f" and {len(folders) - _FOLDERS} more folders" if len(folders) > _FOLDERS else ""
    yield paragraph(f"Made {now} from {first}{more}.")
    for folder in empty:
        yield paragraph(f"{folder} holds no run and is left out.", "warning")
    for run in runs:
        for note in run.notes:
            yield paragraph(f"{run.name}: {note}", "warning")
        if run.status.startswith(("unfinished", "interrupted")):
            yield paragraph(f"{run.name} is {run.status}: its figures are those so far.", "warning")
