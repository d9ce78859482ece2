"""The attention kernel of tiny models on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn.attention import SDPBackend, sdpa_kernel

from fineclip.devices import default_device


@contextmanager
def attention_for_short_sequences() -> Iterator[None]:
    """On a CPU the fused kernel's backward pass takes half of a step at these tiny sizes."""
    if default_device().type != "cpu":
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield
