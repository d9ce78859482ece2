"""Where labels stand: inside the picture, and none on top of another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Point = tuple[int, int]
"""x and y in pixels."""


def place_labels(
    wanted: Sequence[Sequence[Point]], sizes: Sequence[Point], canvas: Point
) -> list[Point | None]:
    """Finds a place for each label.

    The first labels choose first. Each takes the first of its wanted places that is free, once it
    is pushed into the picture, and otherwise the nearest free one that adjoins labels or borders.

    Args:
        wanted: Top left corners where each of n labels would stand, best first, at least one.
        sizes: Width and height of each label in pixels, at least 1.
        canvas: Width and height of the picture in pixels.

    Returns:
        Top left corner of each label; None: there is no room left for it.
    """
    taken = np.zeros((0, 4), dtype=np.int64)  # x0, y0, x1, y1 of the labels that have a place
    places: list[Point | None] = []
    for corners, size in zip(wanted, sizes, strict=True):
        room = np.subtract(canvas, size)
        if (room < 0).any():
            places.append(None)
            continue
        first = np.clip(np.asarray(corners, dtype=np.int64), 0, room)
        place = _first_free(first, size, taken)
        if place is None:
            place = _first_free(_elsewhere(first[0], size, room, taken), size, taken)
        if place is not None:
            taken = np.vstack([taken, [*place, place[0] + size[0], place[1] + size[1]]])
        places.append(place)
    return places


def _first_free(corners: np.ndarray, size: Point, taken: np.ndarray) -> Point | None:
    """The first of (m, 2) corners at which a label overlaps none of the (k, 4) taken places."""
    x, y = corners[:, :1], corners[:, 1:]
    overlaps = (
        (x < taken[:, 2])
        & (x + size[0] > taken[:, 0])
        & (y < taken[:, 3])
        & (y + size[1] > taken[:, 1])
    )
    free = np.flatnonzero(~overlaps.any(axis=1))
    return (int(corners[free[0], 0]), int(corners[free[0], 1])) if len(free) else None


def _elsewhere(start: np.ndarray, size: Point, room: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """(m, 2) corners beside labels and borders, in rows of a label's height, nearest first."""
    rows = np.arange(start[1] % size[1], room[1] + 1, size[1])
    rows = np.unique(np.concatenate([rows, [0, room[1]]]))
    columns = np.concatenate([[start[0], 0, room[0]], taken[:, 2], taken[:, 0] - size[0]])
    columns = np.unique(columns[(columns >= 0) & (columns <= room[0])])
    corners = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    return corners[np.argsort(abs(corners - start).sum(axis=1), kind="stable")]
