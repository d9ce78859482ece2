import math

import pytest
import torch
from slow_loops import assert_equals_slow, cosine, info_nce

from fineclip.embeddings import Embeddings
from fineclip.objectives import GlobalContrastive, RegionContrastive, SelfDistillation


def random_embeddings(rows, seed=0, **scale):
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return torch.randn(rows, 8, generator=generator).requires_grad_()

    return Embeddings(
        image=draw(),
        text=draw(),
        region=draw(),
        crop=draw(),
        region_text=draw(),
        logit_scale=torch.tensor(math.log(10.0)).requires_grad_(),
    )


def slow_distillation(e):
    distances = [1 - cosine(r, c) for r, c in zip(e.region, e.crop, strict=True)]
    return {"loss_distill": sum(distances) / len(distances)}


@pytest.mark.parametrize(
    ("objective", "slow"),
    [
        (
            GlobalContrastive(),
            lambda e: {"loss_global": info_nce(e.image, e.text, e.logit_scale.exp())},
        ),
        (
            RegionContrastive(),
            lambda e: {"loss_region": info_nce(e.region, e.region_text, e.logit_scale.exp())},
        ),
        (SelfDistillation(), slow_distillation),
    ],
)
def test_equals_slow_loops(objective, slow):
    assert_equals_slow(objective, random_embeddings(5), slow, gradient=objective.needs)


def test_contrast_by_hand():
    """Two orthogonal pairs at factor ln 3: each row is classified with probability 3 / 4."""
    eye = torch.eye(2)
    embeddings = Embeddings(
        image=eye, text=2 * eye, logit_scale=torch.tensor(math.log(math.log(3)))
    )
    assert GlobalContrastive()(embeddings)["loss_global"].item() == pytest.approx(math.log(4 / 3))


def test_distillation_by_hand():
    region = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    crop = torch.tensor([[3.0, 0.0], [1.0, 0.0]])  # cosines 1 and 0
    value = SelfDistillation()(Embeddings(region=region, crop=crop))["loss_distill"]
    assert value.item() == pytest.approx(0.5)


def test_gradient_flows_into_both_sides_unless_detached():
    embeddings = random_embeddings(3)
    SelfDistillation()(embeddings)["loss_distill"].backward()
    assert embeddings.region.grad.norm() > 0
    assert embeddings.crop.grad.norm() > 0

    embeddings = random_embeddings(3)
    SelfDistillation(detach_teacher=True)(embeddings)["loss_distill"].backward()
    assert embeddings.region.grad.norm() > 0
    assert embeddings.crop.grad is None


@pytest.mark.parametrize("objective", [GlobalContrastive, RegionContrastive, SelfDistillation])
def test_no_rows_give_a_connected_zero(objective):
    embeddings = random_embeddings(0)
    (value,) = objective()(embeddings).values()
    assert value.item() == 0
    value.backward()
    for name in objective.needs:
        assert getattr(embeddings, name).grad is not None, name


@pytest.mark.parametrize("objective", [GlobalContrastive, RegionContrastive, SelfDistillation])
def test_weight_scales_the_loss(objective):
    embeddings = random_embeddings(4)
    (one,) = objective()(embeddings).values()
    (half,) = objective(weight=0.5)(embeddings).values()
    assert half.item() == pytest.approx(one.item() / 2)


def test_losses_stay_float32_under_autocast():
    embeddings = random_embeddings(4)
    expected = GlobalContrastive()(embeddings)["loss_global"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = GlobalContrastive()(embeddings)["loss_global"]
    assert value.dtype == torch.float32
    assert value.item() == expected.item()


def test_missing_embedding_is_named():
    with pytest.raises(ValueError, match="SelfDistillation needs the embeddings crop"):
        SelfDistillation()(Embeddings(region=torch.ones(1, 2)))
