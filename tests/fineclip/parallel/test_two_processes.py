"""Two gloo processes take the very step that one process takes on the concatenated batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from two_process_step import COUNTS, MODELS, VIEWS, evaluate_objectives, make_model, step

SCRIPT = Path(__file__).with_name("two_process_step.py")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The folder in which both ranks left their parameters after each case's step."""
    folder = tmp_path_factory.mktemp("ranks")
    processes = [
        subprocess.Popen([sys.executable, SCRIPT, str(rank), folder / "store", folder])
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    return folder


@pytest.mark.parametrize("case", COUNTS)
@pytest.mark.parametrize("model_name", MODELS)
def test_step_equals_single_process(model_name, case, two_processes):
    single = step(model_name, COUNTS[case], 0, 1)
    for rank in range(2):
        file = two_processes / f"{model_name}-{case}-{rank}.pt"
        parameters = torch.load(file, weights_only=True)
        assert parameters.keys() == single.keys()
        for name, expected in single.items():
            torch.testing.assert_close(
                parameters[name], expected, atol=1e-5, rtol=0, msg=f"{name} on rank {rank}"
            )
    # A step smaller than the tolerance would prove nothing.
    start = dict(make_model(model_name).named_parameters())
    moved = [(single[name] - start[name]).abs().max() > 1e-4 for name in start]
    assert sum(moved) > len(moved) // 2


@pytest.mark.parametrize("case", COUNTS)
def test_objectives_see_the_global_batch(case, two_processes):
    """Unequal image counts: the first rank has three of four images."""
    outputs, gradients = evaluate_objectives(COUNTS[case], 0, 4)
    ranks = [
        torch.load(two_processes / f"objectives-{case}-{rank}.pt", weights_only=True)
        for rank in range(2)
    ]
    for name, expected in outputs.items():
        for rank in range(2):
            actual = ranks[rank][0][name]
            torch.testing.assert_close(actual, expected, msg=f"{name} on rank {rank}")
    assert ranks[0][1].keys() == ranks[1][1].keys() == gradients.keys()
    assert gradients.keys() >= {"student_prototypes", "patches", "text_tokens", "region"}
    for name, expected in gradients.items():
        parts = [part[name] for _, part in ranks]
        # Each rank computes all losses: a row's gradient arrives twice, what is shared stays local.
        if expected.ndim and name != "vocabulary":
            total = torch.cat(parts, dim=1 if name in VIEWS else 0) / 2
        else:
            total = sum(parts) / 2
        torch.testing.assert_close(total, expected, atol=1e-6, rtol=1e-5, msg=f"{name}")
