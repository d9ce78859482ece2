"""A run of the data engine, from its arguments to the manifest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fineclip.annotation.annotate import Job, StageTimes
from fineclip.annotation.engines import Engine, LocalEngine, ShardTask
from fineclip.annotation.finish import finish
from fineclip.annotation.interfaces import check_kinds
from fineclip.annotation.records import ImageSource
from fineclip.annotation.scan import ShardScan, Tell, duplicates_by_shard
from fineclip.annotation.settings import AnnotationSettings
from fineclip.annotation.sources import open_source
from fineclip.annotation.work_folder import COCO_FILES, MANIFEST, WorkFolder
from fineclip.files import read_json
from fineclip.progress import Progress


@dataclass(frozen=True)
class Inputs:
    """What is read.

    Attributes:
        path: Folder of images, of shards, or one shard.
        captions: File of captions by file name.
        annotations: COCO's file of boxes.
        region_captions: File of their captions.
    """

    path: Path
    captions: Path | None = None
    annotations: Path | None = None
    region_captions: Path | None = None

    def open(self, settings: AnnotationSettings, out: Path | None = None) -> ImageSource:
        """Lists what there is; ``out``, where it lies below, is not looked into."""
        return open_source(
            self.path,
            captions=self.captions,
            annotations=self.annotations,
            region_captions=self.region_captions,
            shard_size=settings.shard_size,
            leave_out=None if out is None else out.resolve(),
        )


@dataclass(frozen=True)
class AnnotationOutcome:
    """What a run came to.

    Attributes:
        manifest: Content of ``manifest.json``; None while shards are missing.
        missing: Numbers of shards that are.
        times: Of this run.
        shards: Number of input shards.
    """

    manifest: dict[str, Any] | None
    missing: list[int]
    times: StageTimes
    shards: int


def annotate_regions(
    inputs: Inputs,
    out: Path,
    settings: AnnotationSettings,
    *,
    engine: Callable[[], Engine] = LocalEngine,
    shard_range: tuple[int, int] | None = None,
    coco: bool = False,
    overwrite: bool = False,
    first_pass_only: bool = False,
) -> AnnotationOutcome:
    """Makes region-text data of captioned images; goes on where an earlier run ended.

    Args:
        inputs: What is read.
        out: Folder to write.
        settings: What is done.
        engine: Makes the one that runs the passes, where there is something to do.
        shard_range: Do input shards from the first number to before the second alone. The run that
            finds all others done makes the data set of them.
        coco: Write COCO's files, too.
        overwrite: Begin anew.
        first_pass_only: Read and filter the images, without models.

    Returns:
        What it came to.

    Raises:
        FileNotFoundError: Something to read is missing.
        FileExistsError: ``out`` holds something else.
        ValueError: Something is malformed, ``out`` was begun with other arguments, or no image is
            left; the manifest says why.
        ImportError: A library that a model or the engine needs is missing.
    """
    if out.resolve() == inputs.path.resolve():
        raise ValueError(f"{out}: SRC and OUT are the same folder")
    check_kinds(settings.proposer, settings.captioner)
    source = inputs.open(settings, out)
    work = WorkFolder(out, len(source))
    first, end = shard_range or (0, len(source))
    if not 0 <= first < end or first >= len(source):
        raise ValueError(f"shard range {first}:{end}: there are shards 0 to {len(source) - 1}")
    plan = {"source": source.identity, "settings": settings.plain()}
    work.begin(plan, overwrite=overwrite)
    times = StageTimes()
    if (manifest := _finished(work, coco)) is not None:
        return AnnotationOutcome(_with_images(manifest, out), [], times, len(source))
    job = Job(settings, source.categories, source.captioned)
    numbers = range(first, min(end, len(source)))
    run = _Passes(work, source, job, engine, times)
    undone = [number for number in numbers if not work.is_done(number)]
    if undone and not first_pass_only:
        run.prepare()
    run.scan([number for number in numbers if not work.scan_file(number).is_file()])
    if not first_pass_only:
        run.annotate(undone)
    with work.alone():
        missing = [number for number in range(len(source)) if not work.is_done(number)]
        scans = work.scans()
        if missing or scans is None:
            return AnnotationOutcome(None, missing, times, len(source))
        if (manifest := _finished(work, coco)) is None:
            manifest = finish(work, source, job, scans, coco=coco)
    return AnnotationOutcome(_with_images(manifest, out), [], times, len(source))


def _with_images(manifest: dict[str, Any], out: Path) -> dict[str, Any]:
    """The manifest of a data set to train on."""
    if not manifest["counts"]["images"]["kept"]:
        reasons = manifest["counts"]["images left out"].items()
        why = ", ".join(f"{count} x {reason}" for reason, count in reasons)
        raise ValueError(f"{out}: no image is left, so there is nothing to train on: {why}")
    return manifest


class _Passes:
    """The two passes, with what they show of themselves."""

    def __init__(
        self,
        work: WorkFolder,
        source: ImageSource,
        job: Job,
        engine: Callable[[], Engine],
        times: StageTimes,
    ) -> None:
        self._work, self._source, self._job = work, source, job
        self._make, self._times = engine, times
        self._engine: Engine | None = None

    def prepare(self) -> None:
        self._with_engine().prepare(self._job)

    def scan(self, numbers: list[int]) -> None:
        if not numbers:
            return
        files = {number: self._work.scan_file(number) for number in numbers}
        total = self._source.total if len(numbers) == len(self._source) else None
        with showing("images read", total, len(numbers), self._times) as tell:
            self._with_engine().scan(self._source, files, self._job, self._times, tell)

    def annotate(self, numbers: list[int]) -> None:
        if not numbers:
            return
        # Of a part of the images nobody can say which are repeated: they are taken out at the end.
        scans = self._work.scans()
        staged = scans is None
        likes: list[dict[int, str]] = [{}] * len(self._source)
        if scans is not None:
            likes = duplicates_by_shard(scans, self._job.settings)
            del scans
        total = 0
        for number in numbers:
            positions = ShardScan.load(self._work.scan_file(number)).positions
            total += len(positions) - len(likes[number])
        tasks = [
            ShardTask(
                number,
                self._source[number],
                self._work.scan_file(number),
                likes[number],
                self._work.target(number, staged=staged),
                self._work.record_file(number, staged=staged),
            )
            for number in numbers
        ]
        with showing("images annotated", total, len(numbers), self._times) as tell:
            self._with_engine().annotate(tasks, self._job, self._times, tell)

    def _with_engine(self) -> Engine:
        if self._engine is None:
            self._engine = self._make()
        return self._engine


def _finished(work: WorkFolder, coco: bool) -> dict[str, Any] | None:
    """The manifest of a run that has come to its end; it is written last."""
    file = work.out / MANIFEST
    if not file.is_file() or any(not work.is_done(number) for number in range(work.shards)):
        return None
    manifest: dict[str, Any] = read_json(file, "manifest")
    return None if coco and not set(COCO_FILES) <= manifest["files"].keys() else manifest


@contextmanager
def showing(title: str, total: int | None, shards: int, times: StageTimes) -> Iterator[Tell]:
    """Shows how many images are done, when the rest will be, and how fast it goes.

    Args:
        title: What is done.
        total: Images; None: as many in each shard as there were so far.
        shards: Number of shards.
        times: Of the stages, while they are measured.
    """
    done, through, begin = 0, 0, time.perf_counter()
    with Progress(title, "image") as progress:

        def tell(images: int, more: int) -> None:
            nonlocal done, through
            done, through = done + images, through + more
            if total is None and not through:
                return
            expected = total if total is not None else max(done, done * shards // through)
            rate = done / max(1e-9, time.perf_counter() - begin)
            notes = [f"{rate:.1f} images/s"]
            for stage in ("boxes", "captions"):  # what models take
                if seconds := times.seconds[stage]:
                    notes.append(f"{stage} {times.counts[stage] / seconds:.1f}/s")
            progress.show(done, expected, ", ".join(notes))

        yield tell
