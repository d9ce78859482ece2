"""Text towers: embeddings of texts and of their tokens, without computing what padding adds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn

from fineclip.models.attention import attention_kernel


class TextTower:
    """Adapter around the text tower of an open_clip model.

    In a causal tower no token sees what comes after it, and the embedding is read off at the end
    of the text. So the columns after the longest text of a batch change nothing and are left out.
    Towers that may need them (bidirectional ones such as SigLIP's, pooling at a fixed place, towers
    of other libraries) are run as they are. Like a trunk it holds no parameters of its own.

    Args:
        clip_model: An open_clip model (``CLIP`` or ``CustomTextCLIP``).

    Attributes:
        trims: Whether padding after the longest text is left out.
        has_tokens: Whether token embeddings are defined.
    """

    def __init__(self, clip_model: nn.Module) -> None:
        self.clip_model: Any = clip_model
        self.tower: Any = getattr(clip_model, "text", clip_model)
        own = self.tower is clip_model or isinstance(self.tower, TextTransformer)
        self.has_tokens = (
            own
            and getattr(self.tower, "cls_emb", None) is None
            and not getattr(self.tower, "use_pad_mask", False)
        )
        if self.has_tokens:
            # What open_clip's CLIP calls text_pool_type and text_eos_id are pool_type and eos_id
            # of its text transformer.
            prefix = "text_" if self.tower is clip_model else ""
            self.pool_type = getattr(self.tower, f"{prefix}pool_type")
            self.eos_id = getattr(self.tower, f"{prefix}eos_id", None)
        self.trims = (
            self.has_tokens
            and self.pool_type in ("argmax", "eos", "first")
            and _is_causal(self.tower.attn_mask)
        )

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer blocks, none where the tower is another library's."""
        return tuple(self.tower.transformer.resblocks) if self.has_tokens else ()

    def encode(self, tokens: Tensor) -> Tensor:
        """Text embeddings.

        Args:
            tokens: (B, T) int64 token ids, B at least 1.

        Returns:
            (B, D), raw.
        """
        if not self.has_tokens:
            return self.clip_model.encode_text(tokens)
        tokens = self.trim(tokens)
        return self._project(self._pool(self._features(tokens), tokens))

    def encode_tokens(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The text embedding, and the one of every token in the same space, from one pass.

        A token's embedding is the final norm's output at its position through the text projection,
        so the embedding at the position the tower pools at is the text embedding itself.

        Args:
            tokens: (B, T) int64 token ids, B at least 1.

        Returns:
            (B, D) text embeddings, raw; (B, T, D) token embeddings, raw, zero in columns that were
            left out; (B, T) bool of :func:`text_mask`.

        Raises:
            ValueError: For text towers of other libraries, and those with an appended class token
                or a padding mask.
        """
        if not self.has_tokens:
            raise ValueError(
                "token embeddings are defined for open_clip's own text transformer without "
                "appended class token or padding mask, not for this "
                f"{type(self.tower).__name__}; objectives that compare tokens (FILIP, SPARC) "
                "need another model"
            )
        mask = text_mask(tokens, self.pool_type, self.eos_id)
        kept = self.trim(tokens)
        features = self._features(kept)  # (B, T', C)
        of_token = self._project(features)  # (B, T', D)
        # The full width, so that batches of several processes fit together.
        of_token = F.pad(of_token, (0, 0, 0, tokens.shape[1] - kept.shape[1]))
        return self._project(self._pool(features, kept)), of_token, mask

    def trim(self, tokens: Tensor) -> Tensor:
        """Cuts (B, T) tokens after the end of the longest text; the identity if not ``trims``."""
        if not self.trims:
            return tokens
        return tokens[:, : int(self.lengths(tokens).max())]

    def lengths(self, tokens: Tensor) -> Tensor:
        """(B,) int64 tokens up to and including the end of each text, T where it is unknown."""
        if not self.has_tokens:
            return torch.full((len(tokens),), tokens.shape[1], device=tokens.device)
        return text_mask(tokens, self.pool_type, self.eos_id).sum(dim=1)

    def pooled_position(self, tokens: Tensor) -> Tensor:
        """(B,) int64 the position in (B, T) tokens at which the text embedding is read off.

        Defined where token embeddings are (``has_tokens``).
        """
        if self.pool_type in ("argmax", "eos"):
            return self.lengths(tokens) - 1
        last = 0 if self.pool_type == "first" else tokens.shape[1] - 1
        return torch.full((len(tokens),), last, device=tokens.device)

    def _features(self, tokens: Tensor) -> Tensor:
        """Final norm's output (B, T, C)."""
        tower, length = self.tower, tokens.shape[1]
        dtype = tower.transformer.get_cast_dtype()
        x = tower.token_embedding(tokens).to(dtype)
        x = x + tower.positional_embedding[:length].to(dtype)
        mask = tower.attn_mask
        if mask is not None:
            mask = mask[:length, :length]
        # Blocks that open_clip recomputes in the backward pass run outside of the choice there.
        recomputed = tower.transformer.grad_checkpointing and torch.is_grad_enabled()
        with nullcontext() if recomputed else attention_kernel(x):
            x = tower.transformer(x, attn_mask=mask)
        return tower.ln_final(x)

    def _pool(self, features: Tensor, tokens: Tensor) -> Tensor:
        return text_global_pool(features, tokens, self.pool_type, eos_token_id=self.eos_id)

    def _project(self, features: Tensor) -> Tensor:
        projection = self.tower.text_projection
        if projection is None:
            return features
        return projection(features) if isinstance(projection, nn.Linear) else features @ projection


def _is_causal(mask: Tensor | None) -> bool:
    """Whether an additive attention mask (T, T) hides from each token all that follow it."""
    if mask is None or mask.is_meta:  # a model without values yet: nothing can be told
        return False
    hidden = torch.isneginf(mask)
    return bool((hidden | ~torch.ones_like(hidden).triu(1)).all())


def text_mask(tokens: Tensor, pool_type: str, eos_id: int | None = None) -> Tensor:
    """True up to and including the end of each text.

    Where the tower pools at the end-of-text token, that is the end. Towers that pool at the first
    or last position (SigLIP) ignore where a text ends; there a trailing run of one repeated id is
    padding but for its first token: SigLIP pads with its end-of-text token.

    Args:
        tokens: (B, T) int64 token ids.
        pool_type: open_clip's name of the pooling; "argmax" ends at the largest id (CLIP), "eos"
            at the first ``eos_id``.
        eos_id: Id of the end-of-text token.

    Returns:
        (B, T) bool, at least one true in each row.
    """
    if pool_type == "argmax":
        end = tokens.argmax(dim=1)
    elif pool_type == "eos":
        assert eos_id is not None, "a tower that pools at the end of text knows its token"
        end = tokens.eq(eos_id).int().argmax(dim=1)
    else:
        differs = tokens != tokens[:, -1:]
        positions = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        end = (differs * positions).amax(dim=1).clamp(max=tokens.shape[1] - 1)
    return torch.arange(tokens.shape[1], device=tokens.device) <= end[:, None]
