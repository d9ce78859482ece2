"""Which attention kernel a tower's blocks run with: one policy for all commands."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

LONGEST_PLAIN = 160
"""Tokens up to which plain attention is the faster one in a training in bf16 on a CPU."""

_RECORDING = threading.RLock()


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


@contextmanager
def recorded_attention() -> Iterator[list[Tensor]]:
    """Attention in the plain formula, whose probabilities are kept for whoever wants gradients.

    The towers of open_clip and timm all call ``torch.nn.functional.scaled_dot_product_attention``,
    after rotary embeddings and norms of queries and keys. For the calling thread it is replaced
    here, so one place serves every family. Outputs differ from the fused kernel's by rounding
    alone. Compiled blocks run as they are written, since a compiled graph calls no Python.

    Recomputation in the backward pass would record twice: switch it off.

    Yields:
        A list to which every attention adds its probabilities (B, heads, T, S), in order of
        execution. Where gradients are enabled they require one, though no weight may.
    """
    owner = threading.get_ident()
    found: list[Tensor] = []
    functional: Any = F
    with _RECORDING, torch.compiler.set_stance("force_eager"):
        before = F.scaled_dot_product_attention

        def attend(
            query: Tensor,
            key: Tensor,
            value: Tensor,
            attn_mask: Tensor | None = None,
            dropout_p: float = 0.0,
            is_causal: bool = False,
            **options: Any,
        ) -> Tensor:
            if threading.get_ident() != owner:
                return before(query, key, value, attn_mask, dropout_p, is_causal, **options)
            scale = options.get("scale") or query.shape[-1] ** -0.5
            logits = query @ key.transpose(-2, -1) * scale
            if is_causal:
                attn_mask = torch.ones_like(logits[0, 0], dtype=torch.bool).tril()
            if attn_mask is not None and attn_mask.dtype == torch.bool:
                logits = logits.masked_fill(~attn_mask, -torch.inf)
            elif attn_mask is not None:
                logits = logits + attn_mask
            probabilities = logits.softmax(dim=-1)
            if torch.is_grad_enabled() and not probabilities.requires_grad:
                probabilities.requires_grad_()
            found.append(probabilities)
            return F.dropout(probabilities, dropout_p) @ value

        functional.scaled_dot_product_attention = attend
        try:
            yield found
        finally:
            functional.scaled_dot_product_attention = before
