import pytest
import torch
from slow_loops import assert_equals_slow, cosine, draw

from fineclip.embeddings import Embeddings
from fineclip.objectives import CLIPSelfDistillation


def slow(e):
    distances = [1 - cosine(r, c) for r, c in zip(e.region, e.teacher_crop.detach(), strict=True)]
    return {"loss_clipself": sum(distances) / len(distances)}


def test_equals_slow_loops_and_spares_the_teacher():
    embeddings = Embeddings(region=draw(5, 6, seed=0), teacher_crop=draw(5, 6, seed=1))
    assert_equals_slow(CLIPSelfDistillation(), embeddings, slow, gradient={"region"})


def test_by_hand():
    region = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    teacher_crop = torch.tensor([[3.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])  # cosines 1, 0 and -1
    embeddings = Embeddings(region=region, teacher_crop=teacher_crop)
    assert CLIPSelfDistillation()(embeddings)["loss_clipself"].item() == pytest.approx(1.0)


def test_no_regions_give_a_connected_zero():
    region = torch.zeros(0, 4, requires_grad=True)
    loss = CLIPSelfDistillation()(Embeddings(region=region, teacher_crop=torch.zeros(0, 4)))
    assert loss["loss_clipself"].item() == 0
    loss["loss_clipself"].backward()
    assert region.grad is not None
