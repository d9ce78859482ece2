"""Which attention kernel a tower's blocks run with: one policy for all commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

LONGEST_PLAIN = 160
"""Tokens up to which plain attention is the faster one in a training in bf16 on a CPU."""


@contextmanager
def attention_kernel(tokens: Tensor) -> Iterator[None]:
    """Chooses the kernel for blocks that are run inside.

    torch's fused kernel is the choice but for one case: on a CPU its backward pass in bf16 or
    fp16 takes two to six times the plain formula's on up to :data:`LONGEST_PLAIN` tokens
    (``tools/benchmark_attention.py``). What the plain one keeps is quadratic in the tokens, so
    long sequences stay with the fused one. Results differ by rounding alone.

    Without gradients ``torch.nn.MultiheadAttention`` would take a path of its own, which holds
    all attention weights; it is switched off.

    A recomputation in the backward pass has to happen inside as well.

    Args:
        tokens: (..., T, C) what the blocks are about to read, or the queries of one attention.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH) if prefers_plain(tokens) else nullcontext():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def prefers_plain(tokens: Tensor) -> bool:
    """Whether (..., T, C) tokens are better off with the plain formula; see above."""
    device = tokens.device.type
    if device != "cpu" or not torch.is_grad_enabled() or tokens.shape[-2] > LONGEST_PLAIN:
        return False
    autocast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if autocast else tokens.dtype
    return dtype in (torch.bfloat16, torch.float16)
