"""Time and peak memory of checkpoint conversions, against copying the file."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

from fineclip.checkpoints import convert
from fineclip.experiments.measuring import peak_memory_bytes


def benchmark_conversions(
    model: str,
    folder: Path,
    *,
    rounds: int = 10,
    report: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Measures copying and every conversion that a model allows.

    Args:
        model: open_clip name; its weights are random.
        folder: Where to write.
        rounds: Times each job is run.
        report: Called with a line before each job.

    Returns:
        Per job ``name``, ``bytes`` of the source, least ``seconds``, ``peak_bytes``, and both as
        multiples: ``times_copy``, ``times_size``.

    Raises:
        ValueError: open_clip does not know the model.
        RuntimeError: A job failed.
    """
    weights = _random_weights(model)
    is_eva = "visual.trunk.cls_token" in weights
    sources = {suffix: folder / f"clip{suffix}" for suffix in (".safetensors", ".pt")}
    save_file(weights, sources[".safetensors"])
    torch.save(weights, sources[".pt"])
    del weights
    targets = [("open_clip", "o.safetensors"), ("catseg", "o.safetensors"), ("fvit", "o.pth")]
    targets += [("eva_clip", "o.pt")] if is_eva else [("huggingface", "hf")]
    jobs: list[tuple[str, Path, Callable, tuple, dict]] = []
    for suffix, source in sources.items():
        jobs.append((f"copy {suffix}", source, shutil.copyfile, (source, folder / "copy"), {}))
        for to, name in targets:
            call = (source, folder / name)
            jobs.append(
                (f"{suffix} -> {to} {Path(name).suffix}", source, convert, call, {"to": to})
            )
    rows: list[dict[str, Any]] = []
    for name, source, job, call, options in jobs:
        report(name)
        result = _measure(rounds, call[1], job, *call, **options)
        rows.append({"name": name, "bytes": source.stat().st_size, **result})
    copies = {row["name"].split()[1]: row["seconds"] for row in rows if row["name"][:4] == "copy"}
    for row in rows:
        suffix = row["name"].removeprefix("copy ").split()[0]
        row["times_copy"] = row["seconds"] / copies[suffix]
        row["times_size"] = row["peak_bytes"] / row["bytes"]
    return rows


def conversion_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per row of :func:`benchmark_conversions`."""
    lines = [f"{'':<32} seconds   / copy   peak GiB   / size"]
    lines += [
        f"{row['name']:<32} {row['seconds']:7.2f} {row['times_copy']:8.2f} "
        f"{row['peak_bytes'] / 2**30:10.2f} {row['times_size']:8.2f}"
        for row in rows
    ]
    return "\n".join(lines)


def _random_weights(model: str) -> dict[str, torch.Tensor]:
    """Random tensors of an open_clip model's names and shapes."""
    if model not in open_clip.list_models():
        raise ValueError(f"unknown model {model!r}; open_clip.list_models() lists the known names")
    state = open_clip.create_model(model, device="meta").state_dict()
    return {key: torch.rand(value.shape, dtype=value.dtype) for key, value in state.items()}


def _measure(
    rounds: int, target: Path, job: Callable[..., object], *args: object, **options: object
) -> dict[str, float]:
    """Runs a job several times in a fresh process: least seconds and peak bytes."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_timed, args=(sender, rounds, target, job, args, options))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError as error:
        raise RuntimeError("the measured process failed, see above") from error
    finally:
        process.join()


def _timed(
    sender: Connection,
    rounds: int,
    target: Path,
    job: Callable[..., object],
    args: tuple,
    options: dict,
) -> None:
    seconds = float("inf")
    for _ in range(rounds):
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        os.sync()  # earlier writes must not be paid for here
        start = time.perf_counter()
        job(*args, **options)
        seconds = min(seconds, time.perf_counter() - start)
    sender.send({"seconds": seconds, "peak_bytes": peak_memory_bytes()})
