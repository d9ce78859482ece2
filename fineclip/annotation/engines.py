"""Who runs the two passes over the shards; here, this process (:mod:`.ray_engine`: many)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from fineclip.annotation.annotate import Job, Models, StageTimes, annotate_shard
from fineclip.annotation.records import ImageSource, InputShard
from fineclip.annotation.scan import ShardScan, Tell, say_nothing, scan_shard
from fineclip.annotation.work_folder import write_record


class ShardTask(NamedTuple):
    """The second pass over one shard.

    Attributes:
        number: Of the shard.
        shard: Its images.
        scan: File of the first pass.
        duplicates: Images to leave out, by position.
        target: Path of the shard to write, without suffix.
        record: File to write at the end.
    """

    number: int
    shard: InputShard
    scan: Path
    duplicates: Mapping[int, str]
    target: Path
    record: Path

    def run(self, job: Job, models: Models, times: StageTimes, tell: Tell = say_nothing) -> None:
        """Does it; the record comes last."""
        scan = ShardScan.load(self.scan)
        record = annotate_shard(
            *(self.number, self.shard, scan, self.duplicates, job, models, self.target),
            tell=tell,
            times=times,
        )
        write_record(self.record, record)
        tell(0, 1)


class Engine(Protocol):
    """Runs the passes over shards."""

    def prepare(self, job: Job) -> None:
        """Fails now where the second pass would, if that can be told."""

    def scan(
        self,
        source: ImageSource,
        files: Mapping[int, Path],
        job: Job,
        times: StageTimes,
        tell: Tell,
    ) -> None:
        """The first pass.

        Args:
            source: The images.
            files: What to write, by number of the shard.
            job: What is done.
            times: Receives the seconds of all processes.
            tell: Told how far it is.
        """

    def annotate(self, tasks: Sequence[ShardTask], job: Job, times: StageTimes, tell: Tell) -> None:
        """The second pass; see :meth:`scan`."""


class LocalEngine:
    """One shard after the other in this process."""

    _models: Models | None = None

    def prepare(self, job: Job) -> None:
        """Loads the models."""
        self._models = Models.of(job.settings)

    def scan(
        self,
        source: ImageSource,
        files: Mapping[int, Path],
        job: Job,
        times: StageTimes,
        tell: Tell,
    ) -> None:
        """See :class:`Engine`."""
        for number, file in files.items():
            scan_and_save(source[number], file, job, times, tell)

    def annotate(self, tasks: Sequence[ShardTask], job: Job, times: StageTimes, tell: Tell) -> None:
        """See :class:`Engine`."""
        models = self._models or Models.of(job.settings)
        for task in tasks:
            task.run(job, models, times, tell)


def scan_and_save(
    shard: InputShard, file: Path, job: Job, times: StageTimes, tell: Tell = say_nothing
) -> int:
    """The first pass over one shard.

    Returns:
        Its number of images.
    """
    with times.of("scan", 0):
        scan = scan_shard(shard, job.settings, job.captioned, tell)
        scan.save(file)
    times.counts["scan"] += int(scan.total)
    tell(0, 1)
    return int(scan.total)
