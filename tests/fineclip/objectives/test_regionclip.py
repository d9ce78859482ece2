import pytest
import torch
from slow_loops import LOG_TEN, assert_equals_slow, cosine, draw, scalar, softplus

from fineclip.embeddings import Embeddings
from fineclip.objectives import RegionCLIPLoss, pseudo_labels
from fineclip.objectives.regionclip import regionclip_loss

LABELS = torch.tensor([3, -1, 0, 3, 7])


def make(label=LABELS, num_categories=12):
    return Embeddings(
        region=draw(len(label), 6, seed=0),
        region_label=label,
        vocabulary=draw(num_categories, 6, seed=1),
        logit_scale=scalar(LOG_TEN),
    )


def slow_over(kept):
    """The loss over given columns; the temperature is detached."""

    def slow(e):
        factor = e.logit_scale.detach().exp()
        total, rows = 0.0, 0
        for region, label in zip(e.region, e.region_label.tolist(), strict=True):
            if label < 0:
                continue
            rows += 1
            for k in kept:
                z = factor * cosine(region, e.vocabulary[k])
                total += softplus(-z) if k == label else softplus(z)
        return {"loss_regionclip": total / rows}

    return slow


@pytest.mark.parametrize("num_sampled", [0, 8, 100])
def test_equals_slow_loops(num_sampled):
    # In eval mode the draw repeats itself; the vocabulary's gradient tells which it was.
    objective = RegionCLIPLoss(num_sampled=num_sampled, seed=5).eval()
    embeddings = make()
    embeddings.vocabulary.requires_grad_()
    objective(embeddings)["loss_regionclip"].backward()
    kept = embeddings.vocabulary.grad.any(dim=1).nonzero().flatten().tolist()
    assert {0, 3, 7} <= set(kept)
    assert len(kept) == min(max(num_sampled, 3), 12)
    assert_equals_slow(objective, make(), slow_over(kept), gradient={"region", "vocabulary"})


def test_by_hand():
    """Orthogonal category and region: every kept category costs log 2."""
    loss = regionclip_loss(
        torch.tensor([[1.0, 0.0, 0.0]] * 2),
        torch.tensor([0, 1]),
        torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 1.0]]),
        torch.tensor(0.0),
        torch.tensor([1, 0, 2]),
    )
    assert loss.item() == pytest.approx(3 * torch.tensor(2.0).log().item())


def values(objective, steps=4):
    """Sampled losses tell draws apart."""
    return [objective(make())["loss_regionclip"].item() for _ in range(steps)]


def test_draws_differ_by_step_and_seed_and_repeat_for_equal_ones():
    first = values(RegionCLIPLoss(num_sampled=6))
    assert len(set(first)) > 1
    assert values(RegionCLIPLoss(num_sampled=6)) == first
    assert values(RegionCLIPLoss(num_sampled=6, seed=1)) != first
    torch.randn(3)  # the global generator has no part in it
    assert values(RegionCLIPLoss(num_sampled=6)) == first


def test_a_resumed_run_continues_the_sequence():
    whole = values(RegionCLIPLoss(num_sampled=6), steps=6)
    before = RegionCLIPLoss(num_sampled=6)
    assert values(before, steps=3) == whole[:3]
    after = RegionCLIPLoss(num_sampled=6)
    after.load_state_dict(before.state_dict())
    assert values(after, steps=3) == whole[3:]


def test_eval_mode_does_not_advance():
    assert len(set(values(RegionCLIPLoss(num_sampled=6).eval()))) == 1


@pytest.mark.parametrize("label", [torch.zeros(0, dtype=torch.int64), torch.tensor([-1, -1])])
def test_nothing_labelled_gives_a_connected_zero(label):
    embeddings = make(label)
    embeddings.region.requires_grad_()
    loss = RegionCLIPLoss()(embeddings)["loss_regionclip"]
    assert loss.item() == 0
    loss.backward()
    assert embeddings.region.grad is not None
    assert not embeddings.region.grad.any()


@pytest.mark.parametrize("wrong", [12, -2])
def test_label_outside_of_the_vocabulary_is_refused(wrong):
    with pytest.raises(ValueError, match=rf"{wrong}.*vocabulary of 12 categories allows 0 to 11"):
        RegionCLIPLoss()(make(torch.tensor([1, wrong])))


def test_one_label_per_region():
    embeddings = make()
    embeddings.region_label = LABELS[:2]
    with pytest.raises(ValueError, match=r"shape \(2,\).*5 regions"):
        RegionCLIPLoss()(embeddings)


def test_negative_count_is_refused():
    with pytest.raises(ValueError, match="num_sampled"):
        RegionCLIPLoss(num_sampled=-1)


def test_pseudo_labels():
    vocabulary = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    # The longer category vector does not win by its length.
    labels, scores = pseudo_labels(torch.tensor([[4.0, 3.0], [0.0, 2.0]]), vocabulary)
    assert labels.tolist() == [0, 1]
    torch.testing.assert_close(scores, torch.tensor([0.8, 1.0]))
    labels, scores = pseudo_labels(torch.zeros(0, 2), vocabulary)
    assert labels.shape == scores.shape == (0,)
    with pytest.raises(ValueError, match="vocabulary"):
        pseudo_labels(torch.zeros(1, 2), torch.zeros(0, 2))
