"""What a run would take: some images are tried, and the rest is multiplication."""

from __future__ import annotations

import tempfile
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fineclip.annotation.annotate import Job, Models, StageTimes, annotate_shard
from fineclip.annotation.records import ImageSource, InputImage, InputShard
from fineclip.annotation.report import stage_lines
from fineclip.annotation.run import Inputs, showing
from fineclip.annotation.scan import scan_shard
from fineclip.annotation.settings import AnnotationSettings
from fineclip.devices import default_device

PAPER_IMAGES, PAPER_BOXES = 2_500_000, 10_400_000
PAPER_GPUS, PAPER_BOX_HOURS, PAPER_CAPTION_HOURS = 8, 4.5, 12.5
"""FineCLIP (NeurIPS 2024) and its reviews: YOLOv9 and BLIP-2 on 8 A800."""

_SHARDS = 4  # that images are taken from


@dataclass(frozen=True)
class Estimate:
    """What was measured, and what follows for all images.

    Attributes:
        tried: Images that were tried.
        kept: Images of these that are kept.
        boxes: Their boxes.
        bytes: That they take on disk.
        total: Images that there are.
        times: Seconds of the stages.
        device: "GPU" or "CPU", on which models ran.
    """

    tried: int
    kept: int
    boxes: int
    bytes: int
    total: int
    times: StageTimes
    device: str

    def hours(self, images: float, stages: Sequence[str]) -> float:
        """Of one process, for so many images."""
        return sum(self.times.seconds[stage] for stage in stages) / self.tried * images / 3600

    def lines(self) -> list[str]:
        """A table beside the paper's figures."""
        models, rest = ("boxes", "captions"), ("scan", "read", "write")
        device = f"{self.device} hours"
        rows = [
            ("", "here", "at the paper's size", "the paper"),
            ("images read", f"{self.total}", "", ""),
            self._row("images", self.kept, PAPER_IMAGES),
            self._row("boxes", self.boxes, PAPER_BOXES),
        ]
        scale = PAPER_IMAGES * self.tried / max(1, self.kept)
        for title, stages, paper in (
            (f"boxes, {device}", ("boxes",), f"{PAPER_GPUS * PAPER_BOX_HOURS:g} (A800)"),
            (f"captions, {device}", ("captions",), f"{PAPER_GPUS * PAPER_CAPTION_HOURS:g} (A800)"),
            ("other, CPU hours", rest, "not published"),
            (
                "hours of one process",
                (*models, *rest),
                f"{PAPER_BOX_HOURS + PAPER_CAPTION_HOURS:g} on {PAPER_GPUS} GPUs",
            ),
        ):
            here, scaled = (f"{self.hours(n, stages):.3g}" for n in (self.total, scale))
            rows.append((title, here, scaled, paper))
        gigabytes = self.bytes / max(1, self.kept) / 1e9
        rows.append(
            (
                "disk, GB",
                f"{gigabytes * self.total * self.kept / self.tried:.3g}",
                f"{gigabytes * PAPER_IMAGES:.3g}",
                "not published",
            )
        )
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        table = ["  ".join(f"{c:<{w}}" for c, w in zip(r, widths, strict=True)) for r in rows]
        return [*stage_lines(self.times), "", *(line.rstrip() for line in table)]

    def _row(self, title: str, count: int, paper: int) -> tuple[str, str, str, str]:
        here = round(count / self.tried * self.total)
        scaled = round(count / max(1, self.kept) * PAPER_IMAGES)
        return f"{title} kept", f"{here}", f"{scaled}", f"{paper}"


@dataclass(frozen=True)
class _Part:
    """The first images of a shard."""

    name: str
    shard: InputShard
    most: int

    def __len__(self) -> int:
        return min(self.most, len(self.shard))

    def images(self, wanted: Container[int] | None = None) -> Iterator[InputImage]:
        return self.shard.images(range(self.most) if wanted is None else wanted)


def estimate(inputs: Inputs, settings: AnnotationSettings, images: int) -> Estimate:
    """Tries some images, spread over the shards; nothing that is written stays.

    Args:
        inputs: What is read.
        settings: What is done.
        images: How many to try.

    Raises:
        FileNotFoundError: Something to read is missing.
        ValueError: Something is malformed, or no image could be read.
        ImportError: A library that a model needs is missing.
    """
    source = inputs.open(settings)
    count = min(_SHARDS, len(source), images)
    numbers = [len(source) * place // count for place in range(count)]
    job = Job(settings, source.categories, source.captioned)
    models = Models.of(settings)
    times, tried, size, outcomes = StageTimes(), 0, 0, []
    shown = showing("images tried", images, count, times)
    with tempfile.TemporaryDirectory() as folder, shown as tell:
        for number in numbers:
            part = _Part(source[number].name, source[number], -(-images // count))
            with times.of("scan", 0):
                scan = scan_shard(part, settings, source.captioned)
            times.counts["scan"] += int(scan.total)
            tried += int(scan.total)
            target = Path(folder) / f"{number:06d}"
            record = annotate_shard(number, part, scan, {}, job, models, target, times=times)
            if record["entry"] is not None:
                size += record["entry"]["bytes"] + record["entry"]["records"]["bytes"]
            outcomes += record["images"]
            tell(int(scan.total), 1)
    if not tried:
        raise ValueError(f"{inputs.path}: no image could be read")
    return Estimate(
        tried=tried,
        kept=sum(reason is None for _, reason, _ in outcomes),
        boxes=sum(counts.get("kept", 0) for _, _, counts in outcomes),
        bytes=size,
        total=_total(source, numbers),
        times=times,
        device="CPU" if default_device().type == "cpu" else "GPU",
    )


def _total(source: ImageSource, numbers: Sequence[int]) -> int:
    """Images of a source; of shards, as many in each as in those that were tried."""
    if source.total is not None:
        return source.total
    found = [len(source[number]) for number in numbers]
    return round(sum(found) / len(found) * len(source))
