"""Two gloo processes take the very step that one process takes on the concatenated batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from two_process_step import (
    CASES,
    COUNTS,
    FORMS,
    STEPS,
    VIEWS,
    evaluate_objectives,
    losses_and_gradients,
    make_model,
    step,
)

from fineclip import objectives
from fineclip.registry import OBJECTIVES

SCRIPT = Path(__file__).parents[2] / "support" / "two_process_step.py"


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The folder in which both ranks left their parameters after each case's step."""
    folder = tmp_path_factory.mktemp("ranks")
    subprocess.run([sys.executable, SCRIPT, folder / "store", folder], check=True)
    return folder


@pytest.mark.parametrize(("model_name", "case"), CASES)
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


@pytest.mark.parametrize("form", STEPS)
@pytest.mark.parametrize(("model_name", "case"), CASES)
def test_gradients_equal_single_process(model_name, case, form, two_processes):
    """Of every parameter, after DistributedDataParallel's mean; losses are the global ones."""
    outputs, gradients, _ = losses_and_gradients(model_name, COUNTS[case], 0, 1)
    for rank in range(2):
        actual_outputs, actual, sent = torch.load(
            two_processes / f"{model_name}-{case}-{form}-{rank}.pt", weights_only=True
        )
        assert actual_outputs.keys() == outputs.keys()
        assert actual_outputs["num_regions"] == sum(COUNTS[case])
        for name, expected in outputs.items():
            torch.testing.assert_close(actual_outputs[name], expected, rtol=1e-6, atol=0, msg=name)
        assert actual.keys() == gradients.keys()
        # Synchronised once, however many chunks add to a gradient.
        assert sent == sum(gradient.numel() for gradient in actual.values())
        for name, expected in gradients.items():
            # The losses are computed in float32; a norm, as single elements may cancel to nothing.
            error = (actual[name] - expected).norm() / expected.norm()
            assert error < 1e-6, f"{name} on rank {rank}: {error:.1e}"


@pytest.mark.parametrize(("model_name", "case"), CASES)
def test_sharded_step_equals_single_process(model_name, case, two_processes):
    """And its checkpoint is that of a model that was never sharded, scalars included."""
    first, second = (
        torch.load(two_processes / f"{model_name}-{case}-sharded-{rank}.pt", weights_only=True)
        for rank in range(2)
    )
    (parameters, momentum), single = first["whole"], step(model_name, COUNTS[case], 0, 1)
    assert parameters.keys() == make_model(model_name).state_dict().keys()
    for name, expected in single.items():
        torch.testing.assert_close(parameters[name], expected, atol=1e-5, rtol=0, msg=name)
    for index, expected in enumerate(single.values()):
        assert momentum[index]["momentum_buffer"].shape == expected.shape
    loaded_parameters, loaded_momentum = first["loaded"]
    for name, value in parameters.items():
        assert torch.equal(loaded_parameters[name], value), name
    for index, state in momentum.items():
        loaded = loaded_momentum[index]["momentum_buffer"]
        assert torch.equal(loaded, state["momentum_buffer"])
    # Rank 0 alone holds whole tensors, and all the time either rank holds its half.
    assert all(second["whole"][0][name] is None for name in single)
    assert 0.45 < second["held"] <= first["held"] < 0.55


@pytest.mark.parametrize("case", COUNTS)
def test_local_form_gathers_what_is_compared(case, two_processes):
    total = sum(COUNTS[case])
    for rank in range(2):
        found, regions = torch.load(two_processes / f"compared-{case}-{rank}.pt", weights_only=True)
        assert found == {
            "SelfDistillation": {},
            "SigmoidRegionContrastive": {"region_text": total},
            "RegionContrastive": {"region": total, "region_text": total},
        }
        own = COUNTS[case][:3] if rank == 0 else COUNTS[case][3:]
        assert regions == [total, sum(own)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", COUNTS)
def test_objectives_see_the_global_batch(case, form, two_processes):
    """Unequal image counts: the first rank has three of four images."""
    outputs, gradients = evaluate_objectives(COUNTS[case], 0, 4)
    exported = {name for name in objectives.__all__ if name in OBJECTIVES}
    assert {name.split(".")[1] for name in outputs if "." in name} == exported
    ranks = [
        torch.load(two_processes / f"objectives-{case}-{form}-{rank}.pt", weights_only=True)
        for rank in range(2)
    ]
    for name, expected in outputs.items():
        for rank in range(2):
            actual = ranks[rank][0][name]
            torch.testing.assert_close(actual, expected, msg=f"{name} on rank {rank}")
    assert ranks[0][1].keys() == ranks[1][1].keys() == gradients.keys()
    assert gradients.keys() >= {
        "student_prototypes",
        "patches",
        "text_tokens",
        "region",
        "global_view",
    }
    for name, expected in gradients.items():
        parts = [part[name] for _, part in ranks]
        # Each rank computes all losses, or twice its share: a row's gradient arrives doubled, what
        # is shared stays local.
        if expected.ndim and name not in ("vocabulary", "mgca_prototypes"):
            total = torch.cat(parts, dim=1 if name in VIEWS else 0) / 2
        else:
            total = sum(parts) / 2
        torch.testing.assert_close(total, expected, atol=1e-6, rtol=1e-5, msg=f"{name}")


def test_metrics_agree_and_count_images_once(two_processes):
    for rank in range(2):
        found = torch.load(two_processes / f"ids-{rank}.pt", weights_only=True)
        assert found == {"ids": [0, 2, 4], "skipped": ["1", "3"]}
