"""The cost table of a GPU, tried on a CPU: stages, their limits, their failures, the goals."""

import json
import subprocess

import pytest
import torch
from job_runs import measurements_in_process

from fineclip.experiments import attention_kernels, gpu_benchmark, measuring
from fineclip.experiments.gpu_benchmark import CostStage, cost_table, goals, run_stages
from fineclip.experiments.measuring import call_function, count_flops
from fineclip.experiments.pretraining_benchmark import StepSettings, measure_step, model_flops

STEP = StepSettings("plain", "EVA02-Ti-16", batch=4, boxes=2, image_size=32, steps=1)


def test_stages_of_pretraining(run_tool, tmp_path):
    stages = ["attention", "CLIP", "RegionCLIP", "CLIPSelf", "FineCLIP plain", "FineCLIP auto"]
    out = tmp_path / "gpu.json"
    with measurements_in_process():
        done = run_tool(
            "benchmark_gpu.py", "--tiny", "--device", "cpu", "--out", out, "--stages", *stages
        )
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    found = {stage["name"]: stage for stage in result["stages"]}
    assert list(found) == ["matrix product", *stages]
    for name in stages[1:]:
        assert 0 < found[name]["matrix_share"] < 1.5 and found[name]["peak_bytes"] > 0, name
    flops = {name: found[name]["model_flops"] for name in stages[1:]}
    assert flops["CLIP"] < flops["CLIPSelf"] < flops["FineCLIP plain"]
    # What is recomputed is no achievement.
    assert flops["FineCLIP auto"] == flops["FineCLIP plain"]
    assert found["FineCLIP auto"]["step_flops"] > found["FineCLIP plain"]["step_flops"]
    assert [goal["met"] for goal in result["goals"]] == [True, True, None]
    towers = found["attention"]["attention"]
    assert [row["shape"][2] for row in towers] == [17, 77, 17, 77]
    assert all(row["operators"] for row in towers)


def test_a_failed_stage_is_reported_and_the_others_go_on(run_tool, tmp_path, monkeypatch):
    def fake(function, arguments, what, *, limit):
        if what == "CLIP":
            raise RuntimeError(f"{what}: OutOfMemoryError: CUDA out\nof memory")
        return {"seconds_per_step": 2.0, "peak_bytes": 10**9, "model_flops": 6e9} | (
            {"matrix_flops_per_second": 4e9} if what == "matrix product" else {}
        )

    monkeypatch.setattr(gpu_benchmark, "call_function", fake)
    out = tmp_path / "gpu.json"
    done = run_tool("benchmark_gpu.py", "--device", "cpu", "--out", out)
    assert done.returncode == 1
    assert "| CLIP | failed: OutOfMemoryError: CUDA out of memory | | |" in done.stdout
    assert "| CAT-Seg training | 2.000 | 1.00 | 75% |" in done.stdout
    assert "CUDA out of memory" in out.read_text()


def test_time_of_all_stages_is_bounded(monkeypatch):
    limits = []
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(gpu_benchmark.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(
        gpu_benchmark, "call_function", lambda *_, limit: limits.append(limit) or {}
    )
    stages = [CostStage(str(number), "", {}) for number in range(3)]
    result = run_stages(stages, stage_seconds=20, total_seconds=45)
    assert limits == [20, 15]  # two looks at the clock a stage
    assert result["stages"][2]["error"] == "not run: 45 s were over"


def test_no_gpu_is_said_at_once(run_tool, tmp_path, monkeypatch):
    monkeypatch.setattr("fineclip.devices.default_device", lambda: torch.device("cpu"))
    done = run_tool("benchmark_gpu.py", "--out", tmp_path / "gpu.json")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "this machine has no GPU" in done.stderr


def test_goals():
    stages = [
        {"name": "FineCLIP plain", "gradient_norm": 2.0},
        {"name": "FineCLIP auto", "gradient_norm": 2.1, "peak_bytes": 7e9},
        {"name": "FineCLIP compiled", "matrix_share": 0.5},
    ]
    assert [goal["met"] for goal in goals(stages)] == [False, False, True]
    assert goals(stages)[1]["value"] == pytest.approx(0.05)
    stages[0] = {"name": "FineCLIP plain", "error": "out of memory"}
    assert [goal["met"] for goal in goals(stages)] == [False, None, True]
    assert "gradients: not measured" in cost_table({"stages": stages, "goals": goals(stages)})


def test_operations_of_a_step_are_those_of_the_whole_batch():
    step = measure_step(STEP)
    # The longest text of two images, to which all are cut, is shorter than that of four.
    assert model_flops(STEP) == pytest.approx(step["step_flops"], rel=0.15)
    left, right = torch.randn(4, 5), torch.randn(5, 6)
    assert count_flops(lambda: left @ right) == 2 * 4 * 5 * 6


def test_a_gpu_without_the_fused_kernel_is_an_error(monkeypatch):
    monkeypatch.setattr(
        attention_kernels,
        "_profiled",
        lambda run, device: {"shape": [2, 3, 17, 32], "operators": ["math"], "kernels": []},
    )
    monkeypatch.setattr(attention_kernels, "_CHECKED", "cpu")
    with pytest.raises(RuntimeError, match=r"64 px: .* runs as math, expected flash"):
        attention_kernels.attention_kernels([("EVA02-Ti-16", 64)], device="cpu", amp="bf16")


def test_what_a_process_started_ends_with_it(tmp_path):
    """A limit ends the processes of the process, too, which hold its output open."""
    script = f"sleep 60 & echo $! > {tmp_path}/child; sleep 60"
    with pytest.raises(subprocess.TimeoutExpired):
        measuring.run_group(["sh", "-c", script], 0.5)
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", (tmp_path / "child").read_text().strip()],
        capture_output=True,
        text=True,
    ).stdout
    assert not state.strip() or state.startswith("Z")


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (subprocess.TimeoutExpired([], 1), "took longer than 1 s"),
        (-9, "ended by SIGKILL, as the system does when memory runs out"),
        (3, "exit code 3"),
    ],
)
def test_reasons_are_one_line(monkeypatch, ending, reason):
    def run(command, limit):
        if isinstance(ending, Exception):
            raise ending
        return subprocess.CompletedProcess(command, ending, "", "")

    monkeypatch.setattr(measuring, "run_group", run)
    with pytest.raises(RuntimeError, match=f"^a: {reason}$"):
        call_function("math:sqrt", {}, "a", limit=1)
