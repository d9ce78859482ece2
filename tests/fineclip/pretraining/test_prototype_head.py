import copy

import pytest
import torch

from fineclip.pretraining.prototype_head import PrototypeHead
from fineclip.registry import MODELS


@pytest.fixture
def head():
    return PrototypeHead(6, 10, hidden_dim=12, bottleneck_dim=4)


def test_shapes(head):
    assert head(torch.randn(5, 6)).shape == (5, 10)
    assert head(torch.randn(2, 3, 6)).shape == (2, 3, 10)
    assert head(torch.randn(0, 6)).shape == (0, 10)
    assert [len(p) for p in head.parameters() if p.ndim == 2] == [10, 12, 12, 4]


def test_logits_are_cosines_with_the_prototypes(head):
    inputs = torch.randn(5, 6)
    logits = head(inputs)
    bottleneck = head.mlp(inputs)
    for i in range(5):
        for k in range(10):
            a, b = bottleneck[i], head.prototypes[k]
            expected = (a @ b / (a.norm() * b.norm())).item()
            assert logits[i, k].item() == pytest.approx(expected, abs=1e-5)


def test_lengths_of_prototypes_do_not_matter(head):
    inputs = torch.randn(5, 6)
    before = head(inputs)
    with torch.no_grad():
        head.prototypes *= torch.arange(1.0, 11.0)[:, None]
    torch.testing.assert_close(head(inputs), before)


def test_gradient_reaches_every_parameter(head):
    head(torch.randn(5, 6)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


def test_a_teacher_can_be_copied(head):
    teacher = copy.deepcopy(head)
    assert teacher.state_dict().keys() == head.state_dict().keys()
    assert teacher.prototypes is not head.prototypes


def test_from_a_config():
    head = MODELS.build({"type": "PrototypeHead", "in_dim": 6, "num_prototypes": 3})
    assert head(torch.randn(2, 6)).shape == (2, 3)


def test_frozen_prototypes_learn_nothing(head):
    """Not even by weight decay; what is before them learns on."""
    head.frozen = True
    before = head.prototypes.detach().clone()
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1, weight_decay=0.5)
    head(torch.randn(5, 6)).square().sum().backward()
    optimizer.step()
    assert torch.equal(head.prototypes, before)
    assert head.mlp[0].weight.grad.any()
    head.frozen = False
    head(torch.randn(5, 6)).square().sum().backward()
    assert head.prototypes.grad.any()
