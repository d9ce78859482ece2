"""The benchmark of a step measures the step: modes differ in cost and in nothing else."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from job_runs import measurements_in_process

from fineclip.experiments import pretraining_benchmark
from fineclip.experiments.pretraining_benchmark import (
    StepSettings,
    benchmark_steps,
    make_batch,
    matrix_rate,
    measure_in_process,
    measure_step,
    step_table,
)
from fineclip.models import DenseCLIP

STEP = StepSettings("plain", "ViT-Ti-16", batch=2, boxes=4, filled=0.5, image_size=32, steps=1)
PADDED = Path(__file__).parents[3] / "tools" / "yardsticks" / "padded_pretrainer.py"


@pytest.fixture(scope="module")
def measured():
    modes = ["plain", "chunked", "auto", "checkpointing", "padded"]
    step = dataclasses.replace(STEP, memory_budget=100_000, yardstick=str(PADDED))
    return {mode: measure_step(dataclasses.replace(step, mode=mode)) for mode in modes}


def test_every_mode_computes_the_same_losses(measured):
    expected = measured["plain"]["losses"]
    assert expected.keys() == {"loss_global", "loss_region", "loss_distill"}
    for mode, found in measured.items():
        assert found["losses"] == pytest.approx(expected, rel=1e-4), mode
        assert found["seconds_per_step"] > 0
        assert found["peak_bytes"] > 0


def test_work_is_counted(measured):
    flops = {mode: found["step_flops"] for mode, found in measured.items()}
    # The trained towers run forward once more; the frozen text tower does not.
    assert flops["plain"] < flops["chunked"] < 1.4 * flops["plain"]
    assert flops["chunked"] == pytest.approx(flops["checkpointing"], rel=0.1)
    # Twice the crops, the image twice, 77 tokens in place of at most 24.
    assert flops["padded"] > 2 * flops["plain"]


def test_batch_fills_the_share_of_slots_asked_for():
    clip = DenseCLIP.create("ViT-Ti-16")
    batch = make_batch(clip, STEP)
    assert batch["images"].shape == (2, 3, 32, 32)
    assert batch["region_image"].tolist() == [0, 0, 1, 1]
    assert batch["texts"].argmax(dim=1).max() < 24
    assert (clip.text_tower.lengths(batch["texts"]) >= 8).all()
    smaller = make_batch(clip, dataclasses.replace(STEP, crop_size=16))
    assert smaller["images"].shape == (2, 3, 32, 32)
    assert smaller["crops"].shape == (4, 3, 16, 16)


def test_process_of_its_own_says_what_failed():
    failed = pytest.raises(RuntimeError, match=r"mode plain: .*no-such-model")
    with measurements_in_process(), failed:
        measure_in_process(dataclasses.replace(STEP, model="no-such-model"))


def test_padded_mode_needs_its_yardstick():
    with pytest.raises(ValueError, match="mode padded needs its yardstick"):
        measure_step(dataclasses.replace(STEP, mode="padded"))


def test_table_and_shares(monkeypatch):
    figures = {
        "plain": {"seconds_per_step": 2.0, "step_flops": 8e9},
        "chunked": {"seconds_per_step": 4.0, "step_flops": 11e9},
    }

    def fake(step):
        shared = {"images_per_second": 1.0, "optimizer_seconds": 0.5}
        memory = {"activation_bytes": 2**30, "peak_bytes": 2**31}
        return {"mode": step.mode, **shared, **memory, **figures[step.mode]}

    monkeypatch.setattr(pretraining_benchmark, "measure_in_process", fake)
    monkeypatch.setattr(pretraining_benchmark, "matrix_rate", lambda device, amp: 8e9)
    lines = []
    result = benchmark_steps(STEP, ["plain", "chunked"], lines.append)
    # Recomputation is no achievement: the plain step's operations count for both.
    assert [mode["matrix_share"] for mode in result["modes"]] == [0.5, 0.25]
    assert json.loads(json.dumps(result))["batch"] == 2
    assert "| chunked | 4 | 500.0 | 1.00 | 1.00 | 2.00 | 25% |" in step_table(result)
    assert len(lines) == 2
    with pytest.raises(ValueError, match="unknown mode fast; known: plain, chunked"):
        benchmark_steps(STEP, ["fast"])


def test_matrix_rate_is_that_of_a_product():
    assert matrix_rate(torch.device("cpu"), seconds=0) > 1e8
