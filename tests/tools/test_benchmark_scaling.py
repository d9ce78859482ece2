"""Curves of time and memory: measured point by point, kept, fitted, drawn."""

import json
from pathlib import Path

import pytest
from job_runs import measurements_in_process

from fineclip.experiments import scaling
from fineclip.experiments.scaling import (
    Curve,
    Line,
    exponent_table,
    exponents,
    measure_curves,
)
from fineclip.experiments.scaling_points import run_rank

DOCS = Path(__file__).parents[2] / "docs"


def test_curves_are_measured_once(run_tool, tmp_path, monkeypatch):
    command = ["benchmark_scaling.py", "--tiny", "--device", "cpu", "--out-dir", tmp_path]
    command += ["--curves", "batch", "budget"]
    with measurements_in_process():
        done = run_tool(*command)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "scaling.json").read_text())
    batch, budget = (curve["lines"][0]["points"] for curve in result["curves"])
    assert [point["x"] for point in batch] == [1, 2]
    assert [point["x"] for point in budget] == [0.125, 1]  # MiB
    assert all(point["seconds"] > 0 for point in (*batch, *budget))
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    assert (DOCS / "scaling.png").stat().st_size < 200_000
    assert "<svg" in (tmp_path / "scaling.svg").read_text()
    assert "| memory budget, MiB | FineCLIP step |" in done.stdout

    # A second run measures what is missing alone; what fails is said, and tried again.
    kept = sorted((tmp_path / "points").iterdir())
    assert len(kept) == 4
    kept[0].unlink()

    def fail(function, arguments, what, *, limit):
        raise RuntimeError(f"{what}: out of memory")

    monkeypatch.setattr(scaling, "call_function", fail)
    done = run_tool(*command)
    assert done.returncode == 1
    assert done.stderr.count("out of memory") == 1
    assert sorted((tmp_path / "points").iterdir()) == kept[1:]


def test_points_of_other_facts_are_measured_anew(tmp_path, monkeypatch):
    calls = []

    def call(function, arguments, what, *, limit):
        calls.append(arguments)
        return {"seconds_per_step": 2.0, "cpu_seconds_per_step": 1.0, "activation_bytes": 5}

    monkeypatch.setattr(scaling, "call_function", call)
    curves = [Curve("c", "size", [Line("a", "m:f", "n", (2, 4), {"k": 1}, factor=2)])]
    for device, threads, seconds in (("cpu", 1, 1.0), ("cpu", 2, 1.0), ("cuda", 1, 2.0)) * 2:
        facts = {"device": device, "threads": threads}
        (curve,) = measure_curves(curves, tmp_path, facts=facts)["curves"]
        points = [{"x": x, "seconds": seconds, "bytes": 5} for x in (1, 2)]
        assert curve["lines"][0]["points"] == points
    assert calls == [{"k": 1, "n": n} for n in (2, 4)] * 3


def test_powers_are_found():
    points = [{"x": x, "seconds": 3 * x**2, "bytes": x if x < 4 else 4} for x in (1, 2, 4, 8)]
    found = exponents(points)
    assert found["seconds"] == {"all": pytest.approx(2), "last": pytest.approx(2)}
    assert found["bytes"]["last"] == 0 < found["bytes"]["all"] < 1
    found = exponents([{"x": 1, "error": "no memory"}, {"x": 2, "seconds": 1.0, "bytes": 0}])
    assert found["seconds"] == found["bytes"] == {"all": None, "last": None}
    line = {"name": "step", "exponents": found}
    table = exponent_table({"curves": [{"label": "boxes", "lines": [line]}]})
    assert table.endswith("| boxes | step | - | - | - | - |")


@pytest.mark.parametrize("local_loss", [True, False])
def test_a_process_measures_its_step(tmp_path, local_loss):
    step = {"mode": "plain", "model": "ViT-Ti-16", "batch": 2, "boxes": 1, "image_size": 16}
    run_rank(0, 1, str(tmp_path), {**step, "steps": 1, "threads": 1, "local_loss": local_loss})
    assert json.loads((tmp_path / "cost.json").read_text())["seconds_per_step"] > 0
