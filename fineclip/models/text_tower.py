"""Token embeddings of open_clip's text towers."""

from __future__ import annotations

import torch
from open_clip.transformer import TextTransformer
from torch import Tensor, nn


def encode_text_tokens(clip_model: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The text embedding, and the one of every token in the same space.

    A token's embedding is the final norm's output at its position through the text projection, so
    the embedding at the position the tower pools at is the text embedding itself.

    Args:
        clip_model: An open_clip model (``CLIP``, or ``CustomTextCLIP`` with open_clip's own text
            transformer).
        tokens: (B, T) int64 token ids.

    Returns:
        (B, D) text embeddings and (B, T, D) token embeddings, raw, and (B, T) bool of
        :func:`text_mask`.

    Raises:
        ValueError: For text towers of other libraries, and those with an appended class token.
    """
    tower = getattr(clip_model, "text", clip_model)
    own = tower is clip_model or isinstance(tower, TextTransformer)
    if not own or getattr(tower, "cls_emb", None) is not None:
        raise ValueError(
            "token embeddings are defined for open_clip's own text transformer without an "
            f"appended class token, not for {type(tower).__name__}; objectives that compare tokens "
            "(FILIP, SPARC) need another model"
        )
    # The hook leaves the tower's own forward pass, its masks and its pooling, to open_clip.
    kept: list[Tensor] = []
    handle = tower.ln_final.register_forward_hook(lambda norm, inputs, output: kept.append(output))
    try:
        text = clip_model.encode_text(tokens)
    finally:
        handle.remove()
    features = kept[0]  # (B, T, C)
    projection = tower.text_projection
    if isinstance(projection, nn.Linear):
        features = projection(features)
    elif projection is not None:
        features = features @ projection
    if tower is clip_model:
        mask = text_mask(tokens, tower.text_pool_type, tower.text_eos_id)
    else:
        mask = text_mask(tokens, tower.pool_type, tower.eos_id)
    return text, features, mask


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
        end = (tokens == eos_id).int().argmax(dim=1)
    else:
        differs = tokens != tokens[:, -1:]
        positions = torch.arange(1, tokens.shape[1] + 1, device=tokens.device)
        end = (differs * positions).amax(dim=1).clamp(max=tokens.shape[1] - 1)
    return torch.arange(tokens.shape[1], device=tokens.device) <= end[:, None]
