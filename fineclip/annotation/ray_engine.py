"""The two passes as Ray Data jobs: many processes, on one machine or a cluster.

Ray is imported here alone, and when the engine is made. Workers write shards to the folder of the
result, which all machines of a cluster must share; what they send back are numbers.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fineclip.annotation.annotate import Job, Models, StageTimes
from fineclip.annotation.engines import ShardTask, scan_and_save
from fineclip.annotation.interfaces import CAPTIONERS, PROPOSERS
from fineclip.annotation.records import ImageSource
from fineclip.annotation.scan import Tell

_STORE_BYTES = 256 << 20  # tasks and numbers go through it, images never


class RayEngine:
    """Runs the passes with Ray Data.

    With ``RAY_ADDRESS`` set, on that cluster; otherwise on this machine.

    Args:
        workers: Processes; None: as many as there are GPUs, or else processors.

    Raises:
        ImportError: Ray is not installed.
    """

    def __init__(self, workers: int | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise ImportError(
                'the engine ray needs Ray: pip install "fineclip-toolkit[annotation-ray]"'
            ) from None
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # errors come as exceptions
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        local: dict[str, Any] = {}
        if "RAY_ADDRESS" not in os.environ:
            # A process more than there are processors is legal: they are numbers to Ray.
            processors = max(workers or 1, len(os.sched_getaffinity(0)))
            local = {"num_cpus": processors, "object_store_memory": _STORE_BYTES}
        try:
            ray.init(
                include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, **local
            )
        except Exception as error:  # a plain one where it took too long
            raise OSError(f"Ray did not start: {error}") from error
        ray.data.DataContext.get_current().enable_progress_bars = False
        found = ray.cluster_resources()
        self._gpus = int(found.get("GPU", 0))
        self._workers = workers or self._gpus or max(1, int(found["CPU"]))

    def prepare(self, job: Job) -> None:
        """Nothing: models are loaded by the workers."""

    def scan(
        self,
        source: ImageSource,
        files: Mapping[int, Path],
        job: Job,
        times: StageTimes,
        tell: Tell,
    ) -> None:
        """See :class:`fineclip.annotation.engines.Engine`."""
        tasks = [(source[number], file.resolve()) for number, file in files.items()]
        self._run(tasks, _Scanner, {"job": job}, 0, times, tell)

    def annotate(self, tasks: Sequence[ShardTask], job: Job, times: StageTimes, tell: Tell) -> None:
        """See :class:`fineclip.annotation.engines.Engine`."""
        paths = ("scan", "target", "record")
        absolute = [
            task._replace(**{name: getattr(task, name).resolve() for name in paths})
            for task in tasks
        ]
        gpus = job.settings.gpus_per_worker
        if gpus is None:
            models = (job.settings.proposer, job.settings.captioner)
            plain = all(name in ("existing", "template") for name in models)
            gpus = 0 if plain or not self._gpus else 1
        arguments = {"job": job, "kinds": (dict(PROPOSERS), dict(CAPTIONERS))}
        self._run(absolute, _Annotator, arguments, gpus, times, tell)

    def _run(
        self,
        tasks: Sequence[Any],
        actor: type,
        arguments: dict[str, Any],
        gpus: float,
        times: StageTimes,
        tell: Tell,
    ) -> None:
        import ray

        workers = min(self._workers, len(tasks))
        rows = ray.data.from_items(
            [{"task": task} for task in tasks], override_num_blocks=len(tasks)
        ).map(
            actor,
            fn_constructor_kwargs=arguments,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
            num_gpus=gpus,
        )
        for row in self._rows(rows):
            tell(int(row["images"]), 1)
            stages = row["stages"].tolist() if hasattr(row["stages"], "tolist") else row["stages"]
            times.add(
                StageTimes(
                    defaultdict(float, zip(stages, row["seconds"], strict=True)),
                    Counter(dict(zip(stages, row["counts"], strict=True))),
                )
            )

    def _rows(self, rows: Any) -> Iterator[dict[str, Any]]:
        import ray

        try:
            yield from rows.iter_rows()
        except ray.exceptions.RayError as error:
            # The traces of several processes end with what happened in the first.
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise ValueError(f"a worker of Ray failed: {lines[-1] if lines else error}") from error


class _Scanner:
    """A process of the first pass."""

    def __init__(self, job: Job) -> None:
        torch.set_num_threads(1)
        self._job = job

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        times = StageTimes()
        shard, file = row["task"]
        return _answer(scan_and_save(shard, file, self._job, times), times)


class _Annotator:
    """A process of the second pass, which keeps its models."""

    def __init__(self, job: Job, kinds: tuple[dict[str, str], dict[str, str]]) -> None:
        torch.set_num_threads(1)
        PROPOSERS.update(kinds[0])
        CAPTIONERS.update(kinds[1])
        self._job, self._models = job, Models.of(job.settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        times, done = StageTimes(), Counter[str]()
        task: ShardTask = row["task"]
        task.run(self._job, self._models, times, lambda images, _: done.update(images=images))
        return _answer(done["images"], times)


def _answer(images: int, times: StageTimes) -> dict[str, Any]:
    stages = sorted(times.seconds)
    return {
        "images": images,
        "stages": stages,
        "seconds": [times.seconds[stage] for stage in stages],
        "counts": [times.counts[stage] for stage in stages],
    }
