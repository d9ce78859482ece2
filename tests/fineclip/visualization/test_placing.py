"""Labels stay in the picture and cover no other."""

import itertools

import numpy as np
import pytest

from fineclip.visualization.placing import place_labels


def overlapping(places, sizes):
    rectangles = [
        (x, y, x + w, y + h)
        for (x, y), (w, h) in (pair for pair in zip(places, sizes, strict=True) if pair[0])
    ]
    return [
        (a, b)
        for a, b in itertools.combinations(rectangles, 2)
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]


@pytest.mark.parametrize("crowd", ["anywhere", "one corner"])
def test_no_label_covers_another_or_leaves_the_picture(crowd):
    rng = np.random.default_rng(0)
    count, canvas = 60, (200, 150)
    corners = (
        rng.integers(-50, 220, (count, 2)) if crowd == "anywhere" else np.full((count, 2), 190)
    )
    sizes = [(int(w), int(h)) for w, h in rng.integers((8, 9), (50, 14), (count, 2))]
    places = place_labels([[tuple(corner)] for corner in corners.tolist()], sizes, canvas)
    assert overlapping(places, sizes) == []
    placed = [(place, size) for place, size in zip(places, sizes, strict=True) if place]
    assert len(placed) >= 35  # most of what there is room for
    for (x, y), (w, h) in placed:
        assert 0 <= x <= 200 - w and 0 <= y <= 150 - h


def test_the_first_choose_first_and_the_best_free_place_is_taken():
    wanted = [[(10, 10)], [(10, 10), (10, 30)], [(12, 12)], [(500, -5)]]
    places = place_labels(wanted, [(20, 8)] * 4, (100, 60))
    assert places[:2] == [(10, 10), (10, 30)]
    assert places[2] in {(10, 18), (10, 20), (12, 20), (30, 12), (10, 2), (12, 2)}  # close by
    assert places[3] == (80, 0)


def test_there_may_be_no_room():
    assert place_labels([[(0, 0)]] * 3, [(10, 10), (11, 5), (10, 10)], (10, 10)) == [
        (0, 0),
        None,
        None,
    ]
    assert place_labels([], [], (10, 10)) == []
