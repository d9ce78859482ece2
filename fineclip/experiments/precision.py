"""Which number format trains faster on this machine."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from fineclip.devices import default_device
from fineclip.experiments.measuring import autocast, synchronize
from fineclip.files import read_json, write_atomically

_TOKENS, _WIDTH = 2048, 128  # of a batch that is trained on, in the tiny models of scenes
_ROUNDS = 12
_GAIN = 0.9  # share of float32's seconds from which on bf16 is worth its rounding


def faster_precision(file: Path) -> Literal["bf16"] | None:
    """The faster one of float32 (None) and bf16, measured once and kept in a file.

    A processor may compute in bf16 and still be slower at it than in float32. Runs that are
    continued keep what they began with, so the answer is read from the file where there is one.

    Args:
        file: JSON with ``amp`` and the ``seconds`` of both.

    Raises:
        ValueError: The file holds something else.
    """
    if file.is_file():
        content = read_json(file, "precision")
        kept = content.get("amp", "") if isinstance(content, dict) else ""
        if kept is None or kept == "bf16":
            return "bf16" if kept else None
        raise ValueError(f'{file} should say "amp": null or "bf16"; delete it to measure anew')
    seconds = measure_precisions()
    amp: Literal["bf16"] | None = "bf16" if seconds["bf16"] < _GAIN * seconds["float32"] else None
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps({"amp": amp, "seconds": seconds}) + "\n")
    return amp


def measure_precisions() -> dict[str, float]:
    """Seconds of a feed-forward block of a small transformer, forward and backward, by turns."""
    device = default_device()
    block = nn.Sequential(nn.Linear(_WIDTH, 4 * _WIDTH), nn.GELU(), nn.Linear(4 * _WIDTH, _WIDTH))
    block.to(device)
    tokens = torch.randn(_TOKENS, _WIDTH, device=device)
    best = {"float32": float("inf"), "bf16": float("inf")}
    for _ in range(_ROUNDS):
        for name in best:
            start = time.perf_counter()
            with autocast(device, "bf16" if name == "bf16" else None):
                out = block(tokens)
            out.float().square().mean().backward()
            synchronize(device)
            best[name] = min(best[name], time.perf_counter() - start)
    return best
