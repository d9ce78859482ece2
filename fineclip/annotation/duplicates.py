"""Which images are left out because others are like them: one decision over all of them.

It is a function of all fingerprints in their order, and of nothing else: whoever makes it, and
whenever, comes to the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

MAX_BITS = 3
"""Of 64: those of pictures saved anew, or at another size, hardly ever differ in more."""

MAX_COLOUR = 8
"""Grey levels of 255 by which a field of 4 x 4 may differ, in any colour."""

_BANDS = 4  # with 3 bits that differ, one of four parts is equal


def find_duplicates(
    content: np.ndarray,
    looks: np.ndarray,
    flat: np.ndarray,
    colours: np.ndarray,
    text: np.ndarray,
    *,
    how: str,
    max_images_per_caption: int | None,
) -> dict[int, str]:
    """Finds the images to leave out.

    Args:
        content: (n, 16) uint8 hashes of the files.
        looks: (n,) uint64 perceptual hashes.
        flat: (n,) bool, pictures whose perceptual hash says nothing.
        colours: (n, 48) uint8 colours of their fields.
        text: (n,) uint64 hashes of their captions, 0 without one.
        how: "near", "exact" or "off".
        max_images_per_caption: None: any number.

    Returns:
        By place, why. Of two that are alike the first stays, unless it is itself left out for
        another that it is like.
    """
    out: dict[int, str] = {}
    if how != "off":
        for place in _repeated(_as_scalars(content)):
            out[place] = "exact duplicate of an image"
    if how == "near":
        alike = np.concatenate([looks[:, None].view(np.uint8).reshape(-1, 8), colours], axis=1)
        useful = ~flat
        useful[list(out)] = False
        places = np.flatnonzero(useful)
        reason = "near duplicate of an image"
        same = places[_repeated(_as_scalars(alike[places]))]
        out.update(dict.fromkeys(same.tolist(), reason))
        useful[same] = False
        places = np.flatnonzero(useful)
        for first, second in _close(looks[places], colours[places]):
            if int(places[first]) not in out:
                out[int(places[second])] = reason
    if max_images_per_caption is not None:
        seen: dict[int, int] = {}
        for place, hash_ in enumerate(text.tolist()):
            if place in out or not hash_:
                continue
            seen[hash_] = seen.get(hash_, 0) + 1
            if seen[hash_] > max_images_per_caption:
                out[place] = "caption of too many images"
    return out


def _as_scalars(rows: np.ndarray) -> np.ndarray:
    """(n, k) uint8 -> (n,) of one value a row."""
    rows = np.ascontiguousarray(rows)
    return rows.view(np.dtype((np.void, rows.shape[1]))).ravel()


def _repeated(values: np.ndarray) -> np.ndarray:
    """Places of all but the first of equal values, ascending."""
    firsts = np.unique(values, return_index=True)[1]
    return np.setdiff1d(np.arange(len(values)), firsts)


def _close(looks: np.ndarray, colours: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of places, ascending by the second, of pictures that look alike."""
    found: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        found.update(_close_in_band(looks, colours, band))
    return sorted(found, key=lambda pair: pair[::-1])


def _close_in_band(looks: np.ndarray, colours: np.ndarray, band: int) -> Iterator[tuple[int, int]]:
    """Pairs among the pictures that have 16 bits of their hash in common."""
    keys = (looks >> np.uint64(16 * band)) & np.uint64(0xFFFF)
    order = np.argsort(keys, kind="stable")
    keys, sorted_looks = keys[order], looks[order]
    rows, shift = np.arange(len(order)), 1
    while True:
        rows = rows[rows + shift < len(order)]
        # Keys are sorted: who has nobody so far behind has nobody farther either.
        rows = rows[keys[rows] == keys[rows + shift]]
        if not len(rows):
            return
        apart = np.bitwise_count(sorted_looks[rows] ^ sorted_looks[rows + shift])
        near = rows[apart <= MAX_BITS]
        pairs = np.stack([order[near], order[near + shift]], axis=1)
        pairs.sort(axis=1)
        difference = np.abs(colours[pairs[:, 0]].astype(np.int16) - colours[pairs[:, 1]])
        alike = difference.max(axis=1, initial=0) <= MAX_COLOUR
        yield from map(tuple, pairs[alike].tolist())
        shift += 1
