"""The inference benchmark measures what it says, and compares answers."""

import json
from pathlib import Path

import pytest
import torch
from job_runs import measurements_in_process

from segmentation.experiments import inference_benchmark
from segmentation.experiments.inference_benchmark import (
    InferenceSettings,
    benchmark_modes,
    measure,
    mode_table,
)
from segmentation.experiments.networks import NETWORKS

PLAIN = Path(__file__).parents[3] / "tools" / "yardsticks" / "plain_inference.py"


@pytest.mark.parametrize("sliding", [True, False])
def test_modes_agree(tmp_path, sliding):
    answers = {}
    for mode in inference_benchmark.MODES:
        settings = InferenceSettings(
            mode,
            "ViT-Ti-16",
            "voc20",
            4,
            32,
            40,
            2,
            sliding_window=sliding,
            network=NETWORKS["tiny"],
            yardstick=str(PLAIN),
        )
        found = measure(settings, tmp_path / mode)
        answers[mode] = torch.load(tmp_path / mode, weights_only=True)
        assert found["classes"] == 20 and found["seconds"] > 0
        assert found["peak_bytes"] >= found["image_bytes"] >= 0
        assert found["vocabulary_seconds"] > 0
    lean = answers.pop("lean")
    assert lean.shape == (2, 20, 4, 5) and lean.std() > 0
    for other in answers.values():
        torch.testing.assert_close(other, lean, atol=1e-4, rtol=0)


def test_comparison(monkeypatch):
    seconds = iter([1.5, 3.0, 1.0, 4.0])  # two rounds, by turns

    def fake(settings, file):
        slow = settings.mode != "lean"
        torch.save(torch.full((2, 2), 0.25 if slow else 0.5), file)
        return {
            "mode": settings.mode,
            "classes": 2,
            "seconds": next(seconds),
            "vocabulary_seconds": 0.5,
            "peak_bytes": 400 if slow else 100,
            "image_bytes": 50,
        }

    monkeypatch.setattr(inference_benchmark, "_measure_in_process", fake)
    result = benchmark_modes(InferenceSettings(), ["lean", "plain"], rounds=2)
    plain = result["modes"][1]
    assert (plain["speed"], plain["memory"], plain["difference"]) == (3.0, 0.25, 0.25)
    assert "| 3.00x | 0.25x | 2.5e-01 |" in mode_table(result).splitlines()[-1]
    json.dumps(result)
    with pytest.raises(ValueError, match="unknown mode fast"):
        benchmark_modes(InferenceSettings(), ["fast"])


def test_failing_process_is_named():
    failed = pytest.raises(RuntimeError, match=r"mode lean: .*no_such_model")
    with measurements_in_process(), failed:
        benchmark_modes(InferenceSettings(model="no_such_model"), ["lean"])
