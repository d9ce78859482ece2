from collections import Counter

import numpy as np
import pytest
import torch

from fineclip.datasets.grid_regions import grid_cells, grid_shapes, random_grid_cells


def test_clipself_draws_from_24_grids():
    shapes = grid_shapes(6)
    assert len(shapes) == len(set(shapes)) == 24
    for rows, columns in shapes:
        assert 1 <= rows <= 6
        assert 1 <= columns <= 6
        assert 0.5 <= rows / columns <= 2
    # Nothing that fits is left out.
    assert {(r, c) for r in range(1, 7) for c in range(1, 7) if 0.5 <= r / c <= 2} == set(shapes)
    assert grid_shapes(1) == [(1, 1)]
    assert max(grid_shapes(16)) == (16, 16)
    with pytest.raises(ValueError, match="max_grid: expected an integer from 1 on, got 0"):
        grid_shapes(0)


def test_cells_tile_the_image():
    cells = grid_cells(2, 3, width=90, height=50)
    expected = [
        [0, 0, 30, 25],
        [30, 0, 60, 25],
        [60, 0, 90, 25],
        [0, 25, 30, 50],
        [30, 25, 60, 50],
        [60, 25, 90, 50],
    ]
    torch.testing.assert_close(cells, torch.tensor(expected, dtype=torch.float32))


def test_draws_are_uniform_shuffled_and_limited():
    rng = np.random.default_rng(0)
    shapes = [(1, 1), (6, 6)]
    counts, first = Counter(), Counter()
    for _ in range(400):
        cells = random_grid_cells(60, 60, shapes=shapes, max_cells=20, rng=rng)
        counts[len(cells)] += 1
        if len(cells) == 20:
            first[tuple(cells[0].tolist())] += 1
            assert len(cells.unique(dim=0)) == 20
    assert counts.keys() == {1, 20}
    assert 150 < counts[1] < 250
    assert len(first) > 30  # of 36 cells each may come first
