"""What the token-level objectives ask of captions."""

from __future__ import annotations

import torch
from torch import Tensor


def check_text_mask(text_tokens: Tensor, text_mask: Tensor) -> None:
    """Refuses captions without a token: a maximum or a mean over them is not defined.

    Args:
        text_tokens: (B, T, D) token embeddings.
        text_mask: (B, T) bool, true where a token is not padding.

    Raises:
        ValueError: If the mask's shape or dtype does not fit, or a caption has no token.
    """
    if text_mask.dtype != torch.bool or text_mask.shape != text_tokens.shape[:2]:
        raise ValueError(
            f"text_mask is {text_mask.dtype} of shape {tuple(text_mask.shape)}, expected bool of "
            f"shape {tuple(text_tokens.shape[:2])} (captions, tokens)"
        )
    empty = (~text_mask.any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"text_mask leaves no token to the captions of rows {empty[:5]}")
