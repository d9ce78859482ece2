"""Which images of an earlier data set a training on another goes through again."""

from __future__ import annotations

import math

import numpy as np

from fineclip.checks import real


def rehearsed_per_pass(images: int, share: float) -> int:
    """How many images are rehearsed beside one pass over others.

    Args:
        images: Of the pass.
        share: Of all images that are rehearsed, below 1.

    Raises:
        ValueError: ``share`` is no such number.
    """
    real(0, 1).require(share, "share")
    if share == 1:
        raise ValueError("share: 1 would rehearse alone, and learn nothing new")
    return math.ceil(images * share / (1 - share) - 1e-9)


def rehearsed_place(seed: int, epoch: int, place: int, size: int) -> int:
    """The image that is drawn for a place of an epoch.

    Args:
        seed: Of the training.
        epoch: From 0.
        place: In the epoch, from 0.
        size: Images to draw from.

    Returns:
        Its place among them; the same whenever it is asked for, so that a resumed training repeats
        it.
    """
    return int(np.random.default_rng((seed, epoch, place)).integers(size))
