"""What a GPU makes of the models: stages in processes of their own, each bounded in time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fineclip.experiments.measuring import call_function
from fineclip.experiments.pretraining_benchmark import matrix_rate

MATRIX = "matrix product"
PLAIN, AUTO, COMPILED = "FineCLIP plain", "FineCLIP auto", "FineCLIP compiled"
MOST_BYTES = 6e9
LEAST_SHARE = 0.5
GRADIENT_TOLERANCE = 1e-2  # relative, of the norm; bfloat16 has eight bits


@dataclass(frozen=True)
class CostStage:
    """One thing to measure.

    Attributes:
        name: What tables call it.
        function: ``"package.module:function"``, see
            :func:`fineclip.experiments.measuring.call_function`.
        arguments: Its keyword arguments, JSON values.
    """

    name: str
    function: str
    arguments: Mapping[str, Any]


def matrix_cost(device: str, amp: str | None, seconds: float) -> dict[str, Any]:
    """What the card makes of large matrix products: ``matrix_flops_per_second``, and its name."""
    place = torch.device(device)
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else device
    return {
        "device_name": name,
        "matrix_flops_per_second": matrix_rate(place, amp, seconds),
        "torch": torch.__version__,
    }


def run_stages(
    stages: Sequence[CostStage],
    *,
    stage_seconds: float,
    total_seconds: float,
    report: Callable[[dict[str, Any]], None] = lambda result: None,
) -> dict[str, Any]:
    """Runs stages one after the other; one that fails says why, and the others go on.

    Args:
        stages: What to measure; :data:`MATRIX` gives the rate that the others are compared with.
        stage_seconds: What a stage may take.
        total_seconds: What all of them may take together.
        report: Called with the result so far after each stage.

    Returns:
        ``stages``: per stage ``name``, ``seconds`` it took, and either ``error``, one line, or
        what its function returns, with ``matrix_share`` (``model_flops`` a second over the matrix
        rate) where operations were counted; ``goals``: see :func:`goals`.
    """
    end = time.monotonic() + total_seconds
    result: dict[str, Any] = {"stages": [], "goals": []}
    rate = None
    for stage in stages:
        start = time.monotonic()
        limit = min(stage_seconds, end - start)
        try:
            if limit < 1:
                raise RuntimeError(f"not run: {total_seconds:.0f} s were over")
            found = call_function(stage.function, stage.arguments, stage.name, limit=limit)
        except RuntimeError as error:
            found = {"error": " ".join(str(error).removeprefix(f"{stage.name}: ").split())}
        rate = found.get("matrix_flops_per_second", rate)
        if rate and "model_flops" in found:
            found["matrix_share"] = found["model_flops"] / found["seconds_per_step"] / rate
        took = round(time.monotonic() - start, 1)
        result["stages"].append({"name": stage.name, "seconds": took, **found})
        result["goals"] = goals(result["stages"])
        report(result)
    return result


def goals(stages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What FineCLIP's step is meant to reach in the paper's setting.

    Returns:
        Per goal ``goal`` in words, the ``value`` reached and whether it is ``met``; both None where
        a stage that it needs is missing.
    """
    known: dict[str, Mapping[str, Any]] = {stage["name"]: stage for stage in stages}

    def figure(name: str, key: str) -> float:
        return known.get(name, {}).get(key, math.nan)

    difference = abs(figure(AUTO, "gradient_norm") / figure(PLAIN, "gradient_norm") - 1)
    peak, share = figure(AUTO, "peak_bytes"), figure(COMPILED, "matrix_share")
    found = (
        (f"{AUTO}: peak of at most {MOST_BYTES / 1e9:.0f} GB", peak, peak <= MOST_BYTES),
        (f"{AUTO}: the plain step's gradients", difference, difference <= GRADIENT_TOLERANCE),
        (f"{COMPILED}: at least {LEAST_SHARE:.0%} of the matrix rate", share, share >= LEAST_SHARE),
    )
    return [
        {"goal": text, "value": None, "met": None}
        if math.isnan(value)
        else {"goal": text, "value": value, "met": met}
        for text, value, met in found
    ]


def cost_table(result: Mapping[str, Any]) -> str:
    """The result of :func:`run_stages` as Markdown, goals below."""
    lines = ["| stage | s / step | peak GB | share of matrix rate |", "|---|---|---|---|"]
    for stage in result["stages"]:
        if "error" in stage:
            lines.append(f"| {stage['name']} | failed: {stage['error']} | | |")
        elif "seconds_per_step" in stage:
            share = f"{stage['matrix_share']:.0%}" if "matrix_share" in stage else "-"
            lines.append(
                f"| {stage['name']} | {stage['seconds_per_step']:.3f} "
                f"| {stage['peak_bytes'] / 1e9:.2f} | {share} |"
            )
    words = {True: "met", False: "missed", None: "not measured"}
    lines += [f"{goal['goal']}: {words[goal['met']]}" for goal in result["goals"]]
    return "\n".join(lines)
