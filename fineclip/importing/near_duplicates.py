"""Which images are copies of one another, and splits that keep copies together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fineclip.checks import integer_from

DISTANCE = 18
"""Bits of 144 that near-duplicates may differ in. Of 100 photographs of COCO the nearest two differ
in 50, of 100 scenes in 44. A photograph and its copy of a quarter of the size, or in JPEG quality
15, differ in 4 at most, coarse patterns and lone shapes on white in 18; 1 % cropped off each side,
up to 18; 2 %, up to 24."""

MOST_BITS = 71
"""Unrelated images differ in half of the 144 bits."""

_BLOCK = 1 << 21
"""Pairs that are compared at a time."""


def duplicate_groups(
    fingerprints: np.ndarray,
    distance: int = DISTANCE,
    together: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Groups of images that are copies of one another, directly or through others.

    Args:
        fingerprints: (n, 3) uint64, see :func:`fineclip.importing.pictures.look_at`.
        distance: Bits that the fingerprints of two copies may differ in.
        together: Names by image; those of one name are versions of one image. None: no names.
        progress: Called with how many images are compared and in all.

    Returns:
        (n,) group of each image, numbered from 0 on.

    Raises:
        ValueError: ``distance`` is below 0 or above :data:`MOST_BITS`.
    """
    integer_from(0, MOST_BITS).require(distance, "near-duplicates")
    count = len(fingerprints)
    rows, columns = [np.arange(0)], [np.arange(0)]
    if together:
        _, names = np.unique(np.array(together), return_inverse=True)
        firsts = np.full(names.max(initial=-1) + 1, count)
        np.minimum.at(firsts, names, np.arange(count))
        rows.append(np.arange(count))
        columns.append(firsts[names])
    start = 0
    while start < count:
        end = min(count, start + max(1, _BLOCK // (count - start)))
        differ = fingerprints[start:end, None] ^ fingerprints[None, start:]
        near = np.bitwise_count(differ).sum(axis=2, dtype=np.uint16) <= distance
        first, second = np.nonzero(near)
        rows.append(first + start)
        columns.append(second + start)
        start = end
        progress(start, count)
    ends = np.concatenate(rows), np.concatenate(columns)
    pairs = coo_array((np.ones(len(ends[0]), bool), ends), shape=(count, count))
    return connected_components(pairs, directed=False)[1]


def divide(
    groups: np.ndarray, shares: Sequence[float], seed: int, names: Sequence[str]
) -> np.ndarray:
    """Divides images into parts that no group is in two of.

    Args:
        groups: (n,) group of each image.
        shares: Share of each part, positive; what they add up to does not matter.
        seed: Of the draw.
        names: Name of each image, by which groups are put in order before they are drawn: the
            result does not depend on how a file system lists them.

    Returns:
        (n,) part of each image, all parts with at least one.

    Raises:
        ValueError: There are fewer groups than parts.
    """
    members: dict[int, list[int]] = {}
    for index in sorted(range(len(groups)), key=lambda index: names[index]):
        members.setdefault(int(groups[index]), []).append(index)
    if len(members) < len(shares):
        raise ValueError(
            f"{len(groups)} images in {len(members)} groups of near-duplicates cannot make "
            f"{len(shares)} splits; ask for fewer parts by --split, or for closer copies by "
            "--near-duplicates 0"
        )
    order = np.random.default_rng(seed).permutation(len(members))
    drawn = [list(members.values())[place] for place in order]
    # The largest first, and each to where most is missing: sizes are then as near as can be.
    drawn.sort(key=len, reverse=True)
    wanted = np.array(shares) / sum(shares) * len(groups)
    parts = np.zeros(len(groups), np.int64)
    counts = np.zeros(len(shares))
    for done, group in enumerate(drawn):
        empty = np.flatnonzero(counts == 0)
        must = len(drawn) - done == len(empty)
        among = empty if must else np.arange(len(shares))
        part = among[np.argmax((wanted - counts)[among])]
        parts[group] = part
        counts[part] += len(group)
    return parts
