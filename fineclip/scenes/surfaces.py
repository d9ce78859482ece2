"""How the background surfaces look: one function per stuff category.

Each takes pixel coordinates and gives colours. Patterns are anchored to the image's unit square,
so that a surface looks alike at every image size; fine grain comes from value noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

Array = np.ndarray
_Painter = Callable[[Array, Array, float, np.random.Generator], Array]


def value_noise(rng: np.random.Generator, cells: tuple[int, int], size: int) -> Array:
    """Smooth random values: a coarse random grid, enlarged bicubically.

    Args:
        rng: Source of the grid.
        cells: Rows and columns of the grid.
        size: Side of the result in pixels.

    Returns:
        (size, size) float32, roughly in [-1, 1].
    """
    grid = Image.fromarray(rng.uniform(-1, 1, cells).astype(np.float32))
    return np.asarray(grid.resize((size, size), Image.Resampling.BICUBIC))


def _cells(rng: np.random.Generator, row: Array, column: Array) -> Array:
    """A random value in [-1, 1] for every (row, column) pair of non-negative integers."""
    table = rng.uniform(-1, 1, (64, 64)).astype(np.float32)
    return table[row.astype(np.intp) % 64, column.astype(np.intp) % 64]


def _lines(u: Array, half_width: float, pixel: Array | float) -> Array:
    """Antialiased lines at the integers of ``u``; widths in the unit of ``u``."""
    distance = 0.5 - np.abs(u % 1.0 - 0.5)
    return np.clip((half_width - distance) / pixel + 0.5, 0, 1)


def _tint(rgb: tuple[int, int, int], amount: Array) -> Array:
    """Scales a colour by (1 + amount): (S, S) -> (S, S, 3)."""
    return np.array(rgb, dtype=np.float32) * (1 + amount)[..., None]


def _blend(image: Array, rgb: tuple[int, int, int], amount: Array) -> Array:
    return image + (np.array(rgb, dtype=np.float32) - image) * amount[..., None]


def _brick_wall(x: Array, y: Array, scale: float, rng: np.random.Generator) -> Array:
    size = y.shape[0]
    rows, columns = 11 / scale, 5.5 / scale
    v = y * rows + rng.uniform()
    row = np.floor(v)
    u = x * columns + (row % 2) * 0.5 + rng.uniform()
    tone = 0.13 * _cells(rng, row + 0 * u, np.floor(u)) + 0.06 * value_noise(rng, (24, 24), size)
    image = _tint((122, 122, 126), tone)
    mortar = np.maximum(_lines(v, 0.07, rows / size), _lines(u, 0.035, columns / size))
    return _blend(image, (182, 182, 180), mortar * 0.85)


def _tiled_wall(x: Array, y: Array, scale: float, rng: np.random.Generator) -> Array:
    size = y.shape[0]
    count = 6 / scale
    u, v = x * count + rng.uniform(), y * count + rng.uniform()
    tone = 0.04 * _cells(rng, np.floor(v) + 0 * u, np.floor(u) + 0 * v)
    image = _tint((218, 220, 220), tone)
    grout = np.maximum(_lines(v, 0.035, count / size), _lines(u, 0.035, count / size))
    return _blend(image, (140, 144, 146), grout)


def _plaster_wall(x: Array, y: Array, scale: float, rng: np.random.Generator) -> Array:
    size = y.shape[0]
    cells = max(2, round(6 / scale))
    blotches = value_noise(rng, (cells, cells), size)
    return _tint((206, 188, 164), 0.09 * blotches + 0.03 * value_noise(rng, (40, 40), size))


def _wooden_floor(x: Array, y: Array, scale: float, rng: np.random.Generator) -> Array:
    size = y.shape[0]
    rows, columns = 8 / scale, 1.6 / scale
    v = y * rows + rng.uniform()
    row = np.floor(v)
    u = x * columns + row * 0.37 + rng.uniform()
    plank = _cells(rng, row + 0 * u, np.floor(u))
    grain = np.sin(2 * math.pi * (v * 3.1 + plank * 5 + 0.5 * value_noise(rng, (10, 4), size)))
    image = _tint((132, 92, 58), 0.14 * plank + 0.07 * grain)
    gaps = np.maximum(_lines(v, 0.04, rows / size), _lines(u, 0.008, columns / size))
    return _blend(image, (66, 44, 28), gaps * 0.9)


def _sandy_floor(x: Array, y: Array, scale: float, rng: np.random.Generator) -> Array:
    size = y.shape[0]
    warp = value_noise(rng, (4, 4), size)
    ripples = np.sin(2 * math.pi * (y * 9 / scale + x * 1.5 + 0.55 * warp))
    return _tint((196, 166, 112), 0.06 * ripples + 0.09 * value_noise(rng, (56, 56), size))


def _carpet_floor(x: Array, y: Array, scale: float, rng: np.random.Generator) -> Array:
    size = y.shape[0]
    count = 17 / scale
    weave = np.sin(2 * math.pi * x * count) * np.sin(2 * math.pi * y * count)
    return _tint((62, 60, 66), 0.22 * weave + 0.16 * value_noise(rng, (48, 48), size))


_PAINTERS: dict[str, _Painter] = {
    "grey brick wall": _brick_wall,
    "white tiled wall": _tiled_wall,
    "beige plaster wall": _plaster_wall,
    "wooden floor": _wooden_floor,
    "sandy floor": _sandy_floor,
    "dark carpet floor": _carpet_floor,
}


def paint_surface(name: str, size: int, scale: float, rng: np.random.Generator) -> Array:
    """Paints a whole image with one surface.

    Args:
        name: Name of a stuff category.
        size: Side of the image in pixels.
        scale: Scale of the pattern, around 1.
        rng: Source of its random details.

    Returns:
        (size, size, 3) float32 in 8-bit levels, not clipped.
    """
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    return _PAINTERS[name](grid[None, :], grid[:, None], scale, rng).astype(np.float32)
