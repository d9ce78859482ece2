"""Published figures, and which of them a run can be laid beside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fineclip.reporting.sources import Run

FIGURES = Path(__file__).with_name("published_results.json")


@dataclass(frozen=True)
class PublishedTable:
    """Rows of a paper's table.

    Attributes:
        title: What it is about.
        source: Who published it.
        data: On which data and with which model.
        configs: Names of our configurations that stand for it.
        clips: Values of CAT-Seg's ``CLIP_PRETRAINED`` that it is about.
        metrics: Title of each column by our name of the metric.
        scale: What our metrics are multiplied by to be percent.
        rows: (name, figures in percent in the order of the columns).
    """

    title: str
    source: str
    data: str
    configs: tuple[str, ...]
    clips: tuple[str, ...]
    metrics: Mapping[str, str]
    scale: float
    rows: Sequence[tuple[str, Sequence[float | None]]]

    def fits(self, run: Run) -> bool:
        """Whether a run is of that configuration, and has any of the metrics."""
        clip = run.settings.get("MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED")
        known = run.config in self.configs or clip in self.clips
        return known and any(metric in run.metrics for metric in self.metrics)


@cache
def published_tables() -> tuple[PublishedTable, ...]:
    """All that is published and known here."""
    return tuple(
        PublishedTable(
            title=entry["title"],
            source=entry["source"],
            data=entry["data"],
            configs=tuple(entry.get("configs", ())),
            clips=tuple(entry.get("clips", ())),
            metrics=entry["metrics"],
            scale=entry.get("scale", 1),
            rows=[(name, values) for name, *values in entry["rows"]],
        )
        for entry in json.loads(FIGURES.read_text(encoding="utf-8"))
    )
