"""Outlines and surface patterns of the scene objects as functions of the plane.

Everything is a formula rather than a bitmap, so the same scene can be drawn at any size with
antialiased edges and its masks are exact at every size. Outlines are signed distances (negative
inside) in an object's own frame: origin at its centre, x to the right, y down, unit = its side.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

SHAPES = ("circle", "square", "triangle", "ring", "cross", "star")
"""Names of the shapes, in the order of the category table."""

OWN_SHAPES = ("crescent", "heart", "arrow", "hourglass")
"""Shapes that the scenes do not show, for data of one's own: their words mean nothing to a CLIP
that was trained on scenes."""

TEXTURES = ("plain", "striped", "dotted", "checkered")
"""Names of the surface patterns."""

_RING_OUTER, _RING_INNER = 0.5, 0.24
_SQUARE_HALF = 0.44
_CROSS_LENGTH, _CROSS_WIDTH = 0.5, 0.17
_STAR_OUTER, _STAR_INNER, _STAR_POINTS = 0.56, 0.25, 5
_TRIANGLE = ((0.0, -0.47), (0.5, 0.4), (-0.5, 0.4))
_ARROW_HEAD = ((0.0, -0.52), (0.46, 0.02), (-0.46, 0.02))
_ARROW_END, _ARROW_WIDTH = 0.5, 0.16
_CRESCENT_BITE, _CRESCENT_SHIFT = 0.42, 0.26
_HEART_HALF, _HEART_SHIFT = 0.27, 0.08
_HOURGLASS_HALF, _HOURGLASS_WAIST, _HOURGLASS_SLOPE = 0.48, 0.06, 0.8


def _circle(x: Array, y: Array) -> Array:
    return np.hypot(x, y) - 0.5


def _square(x: Array, y: Array) -> Array:
    return np.maximum(np.abs(x), np.abs(y)) - _SQUARE_HALF


def _triangle(x: Array, y: Array) -> Array:
    return _polygon(_TRIANGLE, x, y)


def _polygon(corners: tuple[tuple[float, float], ...], x: Array, y: Array) -> Array:
    """A convex one, its corners clockwise as the picture shows them."""
    distances = []
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        length = math.hypot(x1 - x0, y1 - y0)
        distances.append(((y1 - y0) * (x - x0) - (x1 - x0) * (y - y0)) / length)
    return np.maximum.reduce(distances)


def _ring(x: Array, y: Array) -> Array:
    middle, half_width = (_RING_OUTER + _RING_INNER) / 2, (_RING_OUTER - _RING_INNER) / 2
    return np.abs(np.hypot(x, y) - middle) - half_width


def _cross(x: Array, y: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    across = np.maximum(x - _CROSS_LENGTH, y - _CROSS_WIDTH)
    upright = np.maximum(x - _CROSS_WIDTH, y - _CROSS_LENGTH)
    return np.minimum(across, upright)


def _star(x: Array, y: Array) -> Array:
    # Folding the plane into one half of one point leaves a single straight edge, from the tip
    # (outer radius, angle 0) to the notch (inner radius, half the angle between two points).
    sector = 2 * math.pi / _STAR_POINTS
    angle = np.arctan2(x, -y)  # 0 points upwards
    folded = np.abs((angle + sector / 2) % sector - sector / 2)
    radius = np.hypot(x, y)
    along, across = radius * np.cos(folded), radius * np.sin(folded)
    notch_x, notch_y = _STAR_INNER * math.cos(sector / 2), _STAR_INNER * math.sin(sector / 2)
    edge_x, edge_y = notch_x - _STAR_OUTER, notch_y
    length = math.hypot(edge_x, edge_y)
    return ((along - _STAR_OUTER) * edge_y - across * edge_x) / length


def _crescent(x: Array, y: Array) -> Array:
    return np.maximum(_circle(x, y), _CRESCENT_BITE - np.hypot(x - _CRESCENT_SHIFT, y))


def _heart(x: Array, y: Array) -> Array:
    # A square on its corner, and a disc on each of its upper sides.
    y = y - _HEART_SHIFT
    right, left = (y + x) / math.sqrt(2), (y - x) / math.sqrt(2)
    square = np.maximum(np.abs(right), np.abs(left)) - _HEART_HALF
    discs = np.minimum(np.hypot(right + _HEART_HALF, left), np.hypot(right, left + _HEART_HALF))
    return np.minimum(square, discs - _HEART_HALF)


def _arrow(x: Array, y: Array) -> Array:
    shaft = np.maximum(np.abs(x) - _ARROW_WIDTH, np.abs(y - _ARROW_END / 2) - _ARROW_END / 2)
    return np.minimum(_polygon(_ARROW_HEAD, x, y), shaft)


def _hourglass(x: Array, y: Array) -> Array:
    side = np.abs(x) - _HOURGLASS_WAIST - _HOURGLASS_SLOPE * np.abs(y)
    return np.maximum(np.abs(y) - _HOURGLASS_HALF, side / math.hypot(1, _HOURGLASS_SLOPE))


_OUTLINES = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "ring": _ring,
    "cross": _cross,
    "star": _star,
    "crescent": _crescent,
    "heart": _heart,
    "arrow": _arrow,
    "hourglass": _hourglass,
}


def signed_distance(shape: str, x: Array, y: Array) -> Array:
    """Signed distance to the outline of a shape (a lower bound of it near outer corners).

    Args:
        shape: One of `SHAPES` or `OWN_SHAPES`.
        x: Coordinates to the right, in sides of the object, centre = 0; any shape.
        y: Coordinates downwards, in sides of the object, centre = 0; same shape as ``x``.

    Returns:
        Same shape; negative inside.
    """
    return _OUTLINES[shape](x, y)


def _wave(u: Array, period: float) -> Array:
    """Distance of ``u`` to the nearest edge of a 50 % square wave, positive in its upper half."""
    return period / 4 - np.abs((u / period) % 1.0 - 0.5) * period


def texture_amount(texture: str, u: Array, v: Array, period: float, pixel: float) -> Array | None:
    """How much of the second colour a surface shows.

    Args:
        texture: One of `TEXTURES`.
        u: First coordinate along the pattern; any shape and unit.
        v: Second coordinate, same shape and unit.
        period: Length after which the pattern repeats, in the same unit.
        pixel: Side of a pixel in the same unit (for antialiasing).

    Returns:
        Values in [0, 1] of the shape of ``u``, or None for the plain surface.
    """
    if texture == "plain":
        return None
    if texture == "striped":
        return np.clip(_wave(u, period) / pixel + 0.5, 0, 1)
    if texture == "dotted":
        du = (u / period) % 1.0 - 0.5
        dv = (v / period) % 1.0 - 0.5
        return np.clip((0.31 - np.hypot(du, dv)) * period / pixel + 0.5, 0, 1)
    if texture == "checkered":
        a = np.clip(_wave(u, period) / pixel + 0.5, 0, 1)
        b = np.clip(_wave(v, period) / pixel + 0.5, 0, 1)
        return a + b - 2 * a * b
    raise ValueError(f"unknown texture {texture!r}; known: {', '.join(TEXTURES)}")
