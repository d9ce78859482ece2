"""Random draws that depend on the sample alone, of code that draws from global generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def draws_of(*key: int) -> Iterator[None]:
    """Seeds the generators of ``random`` and NumPy for the block, and puts them back.

    Args:
        *key: What the draws depend on, such as seed, epoch and index; from 0 on.
    """
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - what libraries draw from
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
