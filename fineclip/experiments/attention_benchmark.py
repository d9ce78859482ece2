"""The fused kernel of attention against the plain formula, by number of tokens and type."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from statistics import median
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from fineclip.experiments.measuring import synchronize

_HEADS, _WIDTH = 4, 64


class AttentionCost(TypedDict):
    """One number of tokens in one type.

    Attributes:
        dtype: "float32" or "bfloat16".
        tokens: Length of a sequence.
        training: Median over rounds of the fused kernel's seconds by the plain formula's in the
            same round, forward and backward.
        inference: The same, forward without gradients.
    """

    dtype: str
    tokens: int
    training: float
    inference: float


def attention_costs(
    lengths: Sequence[int], *, rounds: int = 7, device: torch.device | str = "cpu"
) -> Iterator[AttentionCost]:
    """Measures one length after the other; the two kernels take turns.

    Args:
        lengths: Tokens of a sequence. Batches hold some 8,000 tokens in all, 4 heads of width 64.
        rounds: Of both kernels.
        device: Where.
    """
    for dtype in (torch.float32, torch.bfloat16):
        for tokens in lengths:
            shape = (max(1, 8000 // tokens), _HEADS, tokens, _WIDTH)
            ratios = [_ratio(shape, dtype, torch.device(device), rounds, g) for g in (True, False)]
            name = str(dtype).removeprefix("torch.")
            yield {"dtype": name, "tokens": tokens, "training": ratios[0], "inference": ratios[1]}


def _ratio(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, rounds: int, gradients: bool
) -> float:
    inputs = [torch.randn(shape, dtype=dtype, device=device) for _ in range(3)]
    for tensor in inputs:
        tensor.requires_grad_(gradients)
    found = []
    for number in range(rounds + 1):
        fused, plain = (
            _seconds(inputs, backend, gradients)
            for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH)
        )
        if number:  # the first warms up
            found.append(fused / plain)
    return median(found)


def _seconds(inputs: list[torch.Tensor], backend: SDPBackend, gradients: bool) -> float:
    device = inputs[0].device
    synchronize(device)
    start = time.perf_counter()
    with torch.set_grad_enabled(gradients), sdpa_kernel(backend):
        query, key, value = inputs
        mixed = F.scaled_dot_product_attention(query, key, value)
    if gradients:
        mixed.backward(mixed.detach())
    synchronize(device)
    return time.perf_counter() - start
