"""Regions without annotations: the cells of a random grid."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fineclip.checks import integer_from
from fineclip.registry import DATA_PARTS


@DATA_PARTS.register_module()
class GridRegions:
    """Cells of a grid drawn anew each time, shuffled and cut out as they are.

    CLIPSelf's image patches, see :func:`grid_shapes`. The annotations supply the list of images
    alone; cells have neither captions nor labels.

    Args:
        max_regions: Cells drawn per image and epoch.
        max_grid: Most rows or columns of the grid.

    Raises:
        ValueError: ``max_regions`` or ``max_grid`` is below 1.
    """

    annotated = False
    labels = False
    crop_scale = 1.0

    def __init__(self, *, max_regions: int = 20, max_grid: int = 6) -> None:
        integer_from(1).require(max_regions, "max_regions")
        self.max_regions = max_regions
        self.shapes = grid_shapes(max_grid)

    def draw(
        self, boxes: Tensor, width: int, height: int, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Cells, which are none of the boxes; see :class:`fineclip.datasets.regions.Regions`."""
        cells = random_grid_cells(
            width, height, shapes=self.shapes, max_cells=self.max_regions, rng=rng
        )
        return cells, torch.full((len(cells),), -1)


def grid_shapes(max_side: int = 6) -> list[tuple[int, int]]:
    """All grids of CLIPSelf's image patches (Wu et al., ICLR 2024, Sec. 3.2, as released).

    (m rows, n columns) with 1 <= m <= max_side and ceil(m / 2) <= n <= min(2 m, max_side), so that
    the aspect ratio of a cell is between half and twice the image's; 24 grids for 6.

    Args:
        max_side: Most rows or columns.

    Raises:
        ValueError: If ``max_side`` is below 1.
    """
    integer_from(1).require(max_side, "max_grid")
    return [
        (rows, columns)
        for rows in range(1, max_side + 1)
        for columns in range((rows + 1) // 2, min(2 * rows, max_side) + 1)
    ]


def grid_cells(rows: int, columns: int, width: int, height: int) -> Tensor:
    """The cells of a grid over an image, row by row.

    Args:
        rows: m.
        columns: n.
        width: Image width in pixels.
        height: Image height in pixels.

    Returns:
        (m n, 4) float32 xyxy in pixels; neighbours share their edges, together they are the image.
    """
    x = torch.linspace(0, width, columns + 1)
    y = torch.linspace(0, height, rows + 1)
    return torch.stack(
        [
            x[:-1].repeat(rows),
            y[:-1].repeat_interleave(columns),
            x[1:].repeat(rows),
            y[1:].repeat_interleave(columns),
        ],
        dim=1,
    )


def random_grid_cells(
    width: int,
    height: int,
    *,
    shapes: list[tuple[int, int]],
    max_cells: int,
    rng: np.random.Generator,
) -> Tensor:
    """Cells of a grid drawn uniformly, shuffled, at most ``max_cells`` of them.

    Args:
        width: Image width in pixels.
        height: Image height in pixels.
        shapes: The grids to draw from, see :func:`grid_shapes`.
        max_cells: Most cells.
        rng: Source of the draws.

    Returns:
        (n, 4) float32 xyxy in pixels.
    """
    cells = grid_cells(*shapes[rng.integers(len(shapes))], width, height)
    return cells[torch.from_numpy(rng.permutation(len(cells))[:max_cells])]
