"""Relevance maps of images and texts for any CLIP with a transformer as image tower."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.explain.rule import Layer, pooled_relevance_parts, relevance_parts
from fineclip.explain.words import Word, words_of_tokens
from fineclip.models.attention import recorded_attention
from fineclip.models.dense_clip import DenseCLIP
from fineclip.models.trunks import TransformerTrunk

Texts: TypeAlias = Sequence[str] | Tensor
"""Texts, their tokens (n, T) int64, or embeddings (n, D) of any length."""

Contrast = Literal["margin", "probability"]


@dataclass(frozen=True)
class Relevance:
    """What made a score as high as it is, all of it 0 or more, comparable within a map.

    Attributes:
        scores: (B,) the scores that are explained.
        image: (B, h, w) relevance of each patch.
        image_parts: (B, L, heads, h, w) the share of each head of each layer, which add up to
            ``image``; attention pooling counts as the last layer. None where not asked for.
        tokens: (B, T) int64 tokens of the texts; None where the text is not explained.
        text: (B, T) relevance of each token, 0 after the end of a text; None as ``tokens``.
        text_parts: (B, L, heads, T), as ``image_parts``.
    """

    scores: Tensor
    image: Tensor
    image_parts: Tensor | None = None
    tokens: Tensor | None = None
    text: Tensor | None = None
    text_parts: Tensor | None = None

    def words(self, clip: DenseCLIP) -> list[list[Word]]:
        """The words of each text with their relevance.

        Args:
            clip: The model that was explained, for its tokenizer.

        Raises:
            ValueError: The texts were not explained, or see
                :func:`fineclip.explain.words.words_of_tokens`.
        """
        if self.tokens is None or self.text is None:
            raise ValueError("only the image was explained: there is no relevance of words")
        rows = zip(self.tokens, self.text, strict=True)
        return [words_of_tokens(clip.tokenizer, tokens, relevance) for tokens, relevance in rows]


def relevance_maps(
    clip: DenseCLIP,
    images: Tensor,
    texts: Texts,
    *,
    against: Texts | None = None,
    contrast: Contrast = "margin",
    explain_text: bool = True,
    parts: bool = False,
) -> Relevance:
    """Which patches and tokens make image i and text i similar.

    The score is the model's logit, the cosine times exp(logit scale), as in the authors' example
    for CLIP; :mod:`fineclip.explain.rule` states the rule. The map of a single word is that of
    the word, or of a prompt with it, as text i.

    The model is left as it was: no gradients, modes or flags change, weights may be frozen, and
    a surrounding ``torch.no_grad`` does no harm.

    Args:
        clip: The model, in any mode; it is explained in eval mode.
        images: (B, 3, H, W) normalised, sides multiples of the patch.
        texts: B of them, one for each image; embeddings explain the image alone.
        against: K texts that score lower, the same for all images; None: the logit is explained.
        contrast: "margin": the logit minus the mean logit of ``against``. "probability": the
            softmax over the text and ``against``. The others are constants for the text side.
        explain_text: Also the relevance of tokens.
        parts: Also the shares of layers and heads.

    Returns:
        The scores and maps, without gradients, on the model's device.

    Raises:
        ValueError: An image tower without attention blocks (ResNet), a text tower whose tokens
            have no embeddings of their own, images that do not fit, or not one text for each.
    """
    trunk = clip.trunk
    if not isinstance(trunk, TransformerTrunk):
        raise ValueError(
            f"relevance is read from attention, which the image tower "
            f"{type(trunk.visual).__name__} lacks: take a ViT, EVA02 or SigLIP model"
        )
    if not len(images) or len(images) != len(texts):
        raise ValueError(
            f"expected one text for each of one or more images, got {len(images)} images and "
            f"{len(texts)} texts"
        )
    if contrast not in ("margin", "probability"):
        raise ValueError(f"unknown contrast {contrast!r}; known: margin, probability")
    grid = trunk.grid_size(*images.shape[-2:])
    tokens = _tokens(clip, texts)
    explain_text = explain_text and not tokens.is_floating_point()
    if explain_text and not clip.text_tower.has_tokens:
        raise ValueError(
            f"the text tower {type(clip.text_tower.tower).__name__} has no token embeddings to "
            "explain: use explain_text=False"
        )
    recording: AbstractContextManager[list[Tensor]] = (
        recorded_attention() if explain_text else nullcontext([])
    )
    with _undisturbed(clip), torch.inference_mode(False):
        with torch.no_grad():
            others = None if against is None else _embed(clip, _tokens(clip, against))
        with torch.enable_grad(), recorded_attention() as image_attention:
            image = clip.encode_image(images, normalize=False)
        with torch.set_grad_enabled(explain_text), recording as text_attention:
            text = _embed(clip, tokens)
        _check_count(len(image_attention), len(trunk.blocks) + (trunk.pooling == "attention"))
        _check_count(len(text_attention), len(clip.text_tower.blocks) if explain_text else 0)
        with torch.enable_grad():
            scores = _scores(image, text, others, contrast, clip.logit_scale.detach().exp())
            attention = [*image_attention, *text_attention]
            gradients = torch.autograd.grad(scores.sum(), attention)
    layers = [Layer(*pair) for pair in zip(attention, gradients, strict=True)]
    of_image = _image_parts(trunk, layers[: len(image_attention)]).unflatten(-1, grid)
    of_text = None
    if explain_text:
        of_text = _text_parts(clip, tokens, layers[len(image_attention) :])
    return Relevance(
        scores=scores.detach(),
        image=of_image.sum(dim=(1, 2)),
        image_parts=of_image if parts else None,
        tokens=tokens if explain_text else None,
        text=None if of_text is None else of_text.sum(dim=(1, 2)),
        text_parts=of_text if parts else None,
    )


def _tokens(clip: DenseCLIP, texts: Texts) -> Tensor:
    """Tokens or embeddings on the model's device."""
    found = texts if isinstance(texts, Tensor) else clip.tokenizer(list(texts))
    return found.to(clip.device)


def _embed(clip: DenseCLIP, texts: Tensor) -> Tensor:
    """(n, D) embeddings of (n, T) tokens; embeddings stay what they are."""
    return texts if texts.is_floating_point() else clip.encode_text(texts, normalize=False)


def _scores(
    image: Tensor, text: Tensor, others: Tensor | None, contrast: Contrast, scale: Tensor
) -> Tensor:
    """(B,) from (B, D) and (B, D) against (K, D)."""
    dtype = torch.promote_types(image.dtype, torch.float32)
    image, text = (F.normalize(embedding.to(dtype), dim=1) for embedding in (image, text))
    own = scale * (image * text).sum(dim=1)
    if others is None:
        return own
    rest = scale * image @ F.normalize(others.to(dtype), dim=1).T  # (B, K)
    if contrast == "margin":
        return own - rest.mean(dim=1)
    return torch.cat([own[:, None], rest], dim=1).softmax(dim=1)[:, 0]


def _image_parts(trunk: TransformerTrunk, layers: list[Layer]) -> Tensor:
    """(B, L, heads, N) of the patches."""
    prefix = trunk.num_prefix_tokens
    if trunk.pooling == "attention":
        return pooled_relevance_parts(layers[:-1], layers[-1])[..., prefix:]
    start = _no_token(layers)
    if trunk.pooling == "class_token":
        start[:, 0] = 1
    else:
        start[:, prefix:] = 1 / (start.shape[1] - prefix)
    return relevance_parts(layers, start)[..., prefix:]


def _text_parts(clip: DenseCLIP, tokens: Tensor, layers: list[Layer]) -> Tensor:
    """(B, L, heads, T), zero in the columns that were left out."""
    start = _no_token(layers)
    start.scatter_(1, clip.text_tower.pooled_position(tokens)[:, None], 1)
    parts = relevance_parts(layers, start)
    return F.pad(parts, (0, tokens.shape[1] - parts.shape[-1]))


def _no_token(layers: list[Layer]) -> Tensor:
    """(B, T) zeros, at least float32."""
    tokens = layers[0].probabilities[:, 0, 0].detach()
    return torch.zeros_like(tokens, dtype=torch.promote_types(tokens.dtype, torch.float32))


def _check_count(recorded: int, expected: int) -> None:
    if recorded != expected:
        raise ValueError(
            f"{expected} attentions expected, {recorded} recorded: this tower does not use torch's "
            "scaled_dot_product_attention (with timm, set TIMM_FUSED_ATTN=1 before importing it)"
        )


@contextmanager
def _undisturbed(clip: DenseCLIP) -> Iterator[None]:
    """Eval mode, frozen weights and nothing recomputed inside; everything as it was afterwards."""
    modes = {module: module.training for module in clip.modules()}
    recomputing: list[Any] = [m for m in clip.modules() if getattr(m, "grad_checkpointing", False)]
    trained = [parameter for parameter in clip.parameters() if parameter.requires_grad]
    try:
        clip.eval().requires_grad_(False)
        for module in recomputing:
            module.grad_checkpointing = False
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for module in recomputing:
            module.grad_checkpointing = True
        for parameter in trained:
            parameter.requires_grad_(True)
