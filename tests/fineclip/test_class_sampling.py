import pytest
import torch

from fineclip.class_sampling import sample_classes

LABELS = torch.tensor([[3, 0], [3, 7]])


def sample(number, seed=0, labels=LABELS, candidates=200):
    generator = torch.Generator().manual_seed(seed)
    return sample_classes(labels, candidates, number, generator).tolist()


def test_what_occurs_is_kept_and_filled_up_without_repeating():
    kept = sample(100)
    assert kept[:3] == [0, 3, 7]
    assert len(kept) == len(set(kept)) == 100
    assert set(kept) <= set(range(200))
    assert sample(2) == [0, 3, 7], "all that occur are kept, even more than asked for"
    assert sorted(sample(100, candidates=20)) == list(range(20))
    assert len(sample(4, labels=torch.tensor([], dtype=torch.int64))) == 4


def test_draws_of_a_seed_stay():
    """A training begun with an older version is resumed with the same classes."""
    assert sample(8, seed=5, candidates=20) == [0, 3, 7, 16, 18, 12, 9, 5]


def test_the_draw_is_uniform_over_the_others():
    counts = torch.zeros(10)
    for seed in range(2000):
        counts[sample(5, seed, candidates=10)] += 1
    assert (counts[[0, 3, 7]] == 2000).all()
    others = counts[[1, 2, 4, 5, 6, 8, 9]] / 2000  # expected 2 / 7, standard deviation 0.01
    assert (others - 2 / 7).abs().max() < 0.05


def test_only_candidates_are_drawn_and_they_stay_as_they_are():
    candidates = torch.arange(10) % 2 == 0
    assert sorted(sample(50, candidates=candidates)) == [0, 2, 3, 4, 6, 7, 8]
    assert candidates.sum() == 5


@pytest.mark.parametrize("number", [2, 3])
def test_chance_is_left_alone_where_nothing_is_drawn(number):
    state = torch.get_rng_state()
    sample_classes(LABELS, 10, number)
    assert torch.equal(torch.get_rng_state(), state)
    sample_classes(LABELS, 10, number + 3)
    assert not torch.equal(torch.get_rng_state(), state)
