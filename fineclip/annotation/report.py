"""What a run says at its end."""

from __future__ import annotations

from pathlib import Path

from fineclip.annotation.annotate import StageTimes
from fineclip.annotation.run import AnnotationOutcome

STAGES = ("scan", "read", "boxes", "captions", "write")
"""In their order: the first pass, and the parts of the second."""


def outcome_lines(outcome: AnnotationOutcome, out: Path) -> list[str]:
    """Lines about what was kept, what was left out, and how fast each stage was."""
    lines = stage_lines(outcome.times)
    if outcome.manifest is None:
        first = ", ".join(map(str, outcome.missing[:5]))
        more = ", ..." if len(outcome.missing) > 5 else ""
        return [
            *lines,
            f"{outcome.shards - len(outcome.missing)} of {outcome.shards} shards are done; "
            f"not yet: {first}{more}",
        ]
    counts = outcome.manifest["counts"]
    for title in ("images", "boxes", "captions"):
        for reason, count in counts[f"{title} left out"].items():
            lines.append(f"left out {count:>9} {title}: {reason}")
    images, boxes = counts["images"], counts["boxes"]
    return [
        *lines,
        f"{images['kept']} of {images['read']} images, {boxes['kept']} of {boxes['proposed']} "
        f"boxes: {out}",
    ]


def units_of(stage: str) -> str:
    """What is counted of a stage."""
    return "boxes" if stage == "captions" else "images"


def stage_lines(times: StageTimes) -> list[str]:
    """Seconds and speed of each stage, of all processes together."""
    lines = []
    for stage in filter(times.counts.get, STAGES):
        seconds, count, unit = times.seconds[stage], times.counts[stage], units_of(stage)
        rate = count / seconds if seconds else 0
        lines.append(f"{stage:<9} {seconds:9.1f} s  {count:9d} {unit}  {rate:9.1f} {unit}/s")
    return lines
