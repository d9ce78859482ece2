import math

import pytest
import torch
from slow_loops import LOG_TEN, assert_equals_slow, cosine, draw, scalar, softplus

from fineclip.embeddings import Embeddings
from fineclip.objectives import SigmoidGlobalContrastive, SigmoidRegionContrastive

CASES = [
    (SigmoidGlobalContrastive, "loss_global", "image", "text"),
    (SigmoidRegionContrastive, "loss_region", "region", "region_text"),
]


def make(left, right, rows):
    return Embeddings(
        **{left: draw(rows, 6, seed=0), right: draw(rows, 6, seed=1)},
        logit_scale=scalar(LOG_TEN),
        logit_bias=scalar(-2.5),
    )


@pytest.mark.parametrize(("objective", "name", "left", "right"), CASES)
def test_equals_slow_loops(objective, name, left, right):
    def slow(e):
        lefts, rights = getattr(e, left), getattr(e, right)
        total = 0.0
        for i, a in enumerate(lefts):
            for j, b in enumerate(rights):
                z = e.logit_scale.exp() * cosine(a, b) + e.logit_bias
                total += softplus(-z) if i == j else softplus(z)
        return {name: total / len(lefts)}

    fields = {left, right, "logit_scale", "logit_bias"}
    assert_equals_slow(objective(), make(left, right, 5), slow, gradient=fields)


def test_by_hand():
    """Factor ln 3, no bias: a pair that matches is right with 3/4, one that does not with 1/2."""
    embeddings = Embeddings(
        image=torch.eye(2),
        text=2 * torch.eye(2),
        logit_scale=torch.tensor(math.log(math.log(3))),
        logit_bias=torch.tensor(0.0),
    )
    loss = SigmoidGlobalContrastive()(embeddings)["loss_global"]
    assert loss.item() == pytest.approx(math.log(4 / 3) + math.log(2))


def test_start_of_training():
    """The published start: with bias -10 the many non-matching pairs cost next to nothing."""
    embeddings = make("image", "text", 64)
    embeddings.image = torch.cat([torch.ones(64, 1), torch.zeros(64, 5)], dim=1)
    embeddings.text = torch.roll(embeddings.image, 1, dims=1)  # orthogonal to every image
    embeddings.logit_bias = torch.tensor(-10.0)
    loss = SigmoidGlobalContrastive()(embeddings)["loss_global"]
    assert loss.item() == pytest.approx(10 + 64 * math.exp(-10), rel=1e-4)


@pytest.mark.parametrize(("objective", "name", "left", "right"), CASES)
def test_no_rows_give_a_connected_zero(objective, name, left, right):
    embeddings = make(left, right, 0)
    fields = [getattr(embeddings, field).requires_grad_() for field in objective.needs]
    loss = objective()(embeddings)[name]
    assert loss.item() == 0
    loss.backward()
    assert all(field.grad is not None for field in fields)
