"""How many images are rehearsed, and which."""

import pytest

from fineclip.datasets.rehearsal import rehearsed_per_pass, rehearsed_place


@pytest.mark.parametrize(("share", "number"), [(0, 0), (0.2, 15), (0.5, 60), (0.75, 180)])
def test_the_share_is_of_all_images(share, number):
    assert rehearsed_per_pass(60, share) == number


@pytest.mark.parametrize("share", [1, 1.5, -0.1, "half"])
def test_no_share(share):
    with pytest.raises(ValueError, match="share"):
        rehearsed_per_pass(60, share)


def test_draws_are_functions_of_epoch_and_place():
    drawn = [rehearsed_place(0, epoch, place, 1000) for epoch in (0, 1) for place in range(50)]
    assert drawn == [rehearsed_place(0, e, p, 1000) for e in (0, 1) for p in range(50)]
    assert len(set(drawn)) > 90 and max(drawn) < 1000
