"""RegionCLIP and CLIPSelf against values and gradients recorded from the reference releases.

Tolerances are the recording's: RegionCLIP 1e-4 of a value near 100, CLIPSelf 2e-5; the norm of
each parameter's gradient, which is all that was recorded of it, to 1e-4.
"""

import pytest
import torch
from clip_reference import CASES, load_reference
from recorded import read_json

from fineclip.class_sampling import sample_classes
from fineclip.embeddings import Embeddings
from fineclip.objectives import CLIPSelfDistillation
from fineclip.objectives.regionclip import regionclip_loss

NORMS = read_json("gradient_norms")


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture
def reference(case):
    return load_reference(case)


def region_labels(reference, batch):
    boxes = reference.input(f"rc_boxes_{batch}").flatten(0, 1)
    return boxes[boxes[:, 5] > 0, 4].long()


def encode_regions(reference, batch):
    boxes, _ = reference.regions(batch)
    return reference.model.encode_regions(reference.input("images"), boxes)


def regionclip(reference, batch, region):
    return regionclip_loss(
        region,
        region_labels(reference, batch),
        reference.input("noun_table"),
        reference.model.logit_scale,
        reference.output(f"regionclip_sampled_{batch}"),
    )


def clipself(reference, batch, region):
    _, valid = reference.regions(batch)
    crop = reference.output("teacher_crop_raw")[valid]
    embeddings = Embeddings(region=region, teacher_crop=crop)
    return CLIPSelfDistillation()(embeddings)["loss_clipself"]


LOSSES = {"regionclip": (regionclip, 1e-4), "clipself": (clipself, 2e-5)}


def recorded_region(reference, batch):
    return reference.output("roi_v2" if batch == "all" else "roi_v2_ragged")


@pytest.mark.parametrize("batch", ["all", "ragged"])
@pytest.mark.parametrize("name", LOSSES)
def test_value_on_recorded_embeddings(reference, name, batch):
    compute, tolerance = LOSSES[name]
    value = compute(reference, batch, recorded_region(reference, batch))
    expected = reference.tensors[f"{reference.prefix}loss.{name}.{batch}.v2"]
    torch.testing.assert_close(value, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("batch", ["all", "ragged"])
@pytest.mark.parametrize("name", LOSSES)
def test_gradient_of_every_parameter(case, reference, name, batch):
    reference.model.zero_grad()
    LOSSES[name][0](reference, batch, encode_regions(reference, batch)).backward()
    gradients = {
        parameter: p.grad
        for parameter, p in reference.model.clip.named_parameters()
        if p.grad is not None
    }
    recorded = {
        reference.names[parameter]: norm
        for parameter, norm in NORMS[case][f"{name}.{batch}.v2"].items()
    }
    largest = max(recorded.values())
    for parameter, norm in recorded.items():
        # A parameter without influence may be left out of the graph by one side only.
        actual = gradients.pop(parameter).norm().item() if parameter in gradients else 0.0
        assert actual == pytest.approx(norm, rel=1e-4, abs=1e-6 * largest), parameter
    assert not any(gradient.any() for gradient in gradients.values()), sorted(gradients)


@pytest.mark.parametrize("batch", ["all", "ragged"])
def test_draw_keeps_the_categories_the_release_keeps(reference, batch):
    """Those of the batch come first, in the same order; the rest is random."""
    labels = region_labels(reference, batch)
    kept = sample_classes(labels, 150, 100, torch.Generator())
    recorded = reference.output(f"regionclip_sampled_{batch}")
    present = len(labels.unique())
    assert kept.shape == recorded.shape
    assert torch.equal(kept[:present], recorded[:present])
