"""Points of :mod:`fineclip.experiments.scaling`: evaluation, and steps of several processes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from fineclip.evaluation.box_classification import rank_classes
from fineclip.experiments.measuring import measure_cost
from fineclip.experiments.pretraining_benchmark import (
    StepSettings,
    make_batch,
    random_pretrainer,
    step_runner,
)


def classification_point(
    classes: int, *, regions: int = 2000, width: int = 512, steps: int = 3
) -> dict[str, Any]:
    """Ranking of all classes for some regions, which happens on the CPU.

    Args:
        classes: Size of the vocabulary.
        regions: Regions.
        width: Of the embeddings.
        steps: Calls whose time is taken.
    """
    region, name = (F.normalize(torch.randn(n, width), dim=1) for n in (regions, classes))
    rank_classes(region, name)
    return measure_cost(lambda: rank_classes(region, name), torch.device("cpu"), steps=steps)


def processes_point(processes: int, **settings: Any) -> dict[str, Any]:
    """A FineCLIP step of several gloo processes on this machine, each with a batch of its own.

    Args:
        processes: Their number.
        **settings: Of :class:`StepSettings`, for each process.
    """
    with tempfile.TemporaryDirectory() as folder:
        arguments = (processes, folder, settings)
        # Forked, which spares imports: nothing has been computed in this process yet.
        torch.multiprocessing.start_processes(
            run_rank, arguments, nprocs=processes, start_method="fork"
        )
        return json.loads((Path(folder) / "cost.json").read_text())


def run_rank(rank: int, processes: int, folder: str, settings: dict[str, Any]) -> None:
    """Measures on one of the processes; the first one writes ``cost.json`` into the folder."""
    step = StepSettings(**settings)
    if step.threads:
        torch.set_num_threads(step.threads)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=processes)
    try:
        model = random_pretrainer(step)
        batch = make_batch(model.clip, step, seed=rank)
        run, *_ = step_runner(DistributedDataParallel(model), batch, step)
        run()
        cost = measure_cost(run, torch.device(step.device), steps=step.steps)
        if rank == 0:
            (Path(folder) / "cost.json").write_text(json.dumps(cost))
        dist.barrier()  # none leaves while another still waits for what it sends
    finally:
        dist.destroy_process_group()
