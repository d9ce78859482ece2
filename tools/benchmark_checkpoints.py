#!/usr/bin/env python
"""Time and peak memory of checkpoint conversions, against copying the file.

Random weights of a full-size model are written once; every conversion and the copy then run in
processes of their own. Time is the best of several rounds, from the call to the renamed file,
without interpreter start and imports; memory is the process's peak resident size, imports included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from safetensors.torch import save_file

from fineclip.checkpoints import convert
from fineclip.files import write_atomically


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default="ViT-L-14-336", help="open_clip name (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="default: %(default)s")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the figures here too")
    return parser.parse_args(argv)


def make_weights(model: str) -> dict[str, torch.Tensor]:
    """Random tensors of an open_clip model's names and shapes."""
    import open_clip

    if model not in open_clip.list_models():
        raise ValueError(f"unknown model {model!r}; open_clip.list_models() lists the known names")
    state = open_clip.create_model(model, device="meta").state_dict()
    return {key: torch.rand(value.shape, dtype=value.dtype) for key, value in state.items()}


def measure(
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
    sender.send({"seconds": seconds, "peak_bytes": _peak_bytes()})


def _peak_bytes() -> int:
    """Peak resident size of this process."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage starts from the parent's size at the fork
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run(args: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """Measures copying and every conversion that the model allows."""
    weights = make_weights(args.model)
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
    rows = []
    for name, source, job, call, options in jobs:
        print(f"{name} ...", file=sys.stderr, flush=True)
        result = measure(args.rounds, call[1], job, *call, **options)
        rows.append({"name": name, "bytes": source.stat().st_size, **result})
    copies = {row["name"].split()[1]: row["seconds"] for row in rows if row["name"][:4] == "copy"}
    for row in rows:
        suffix = row["name"].removeprefix("copy ").split()[0]
        row["times_copy"] = row["seconds"] / copies[suffix]
        row["times_size"] = row["peak_bytes"] / row["bytes"]
    return rows


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            rows = run(args, Path(folder))
        if args.out:
            report = {"model": args.model, "torch": torch.__version__, "rows": rows}
            write_atomically(args.out, json.dumps(report, indent=2) + "\n")
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(f"{args.model}, {rows[0]['bytes'] / 2**30:.2f} GiB, best of {args.rounds}")
    print(f"{'':<32} seconds   / copy   peak GiB   / size")
    for row in rows:
        print(
            f"{row['name']:<32} {row['seconds']:7.2f} {row['times_copy']:8.2f} "
            f"{row['peak_bytes'] / 2**30:10.2f} {row['times_size']:8.2f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
