"""Class embeddings of words that change while somebody types."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from fineclip.models.class_embeddings import TextEncoder, build_class_embeddings
from fineclip.models.embedding_cache import EmbeddingCache
from fineclip.text.templates import Template


class WordEmbedder:
    """Embeds words one by one and remembers the last ones in memory.

    Each is embedded as :func:`build_class_embeddings` does it. Threads may share an embedder.

    Args:
        clip: The model, in eval mode.
        templates: Anything :func:`fineclip.text.templates.get_templates` takes.
        capacity: Words that are remembered.
        cache: Of this model with its weights, on disk. None: in memory alone.
    """

    def __init__(
        self,
        clip: TextEncoder,
        templates: str | Sequence[str] | Template = "photo",
        capacity: int = 4096,
        cache: EmbeddingCache | None = None,
    ) -> None:
        def embed(word: str) -> Tensor:
            return build_class_embeddings(clip, [word], templates, cache=cache)[0].cpu()

        self._embed = lru_cache(capacity)(embed)

    def __call__(self, words: Sequence[str]) -> Tensor:
        """Embeds K words.

        Returns:
            (K, D) float32 unit vectors on the CPU.
        """
        return torch.stack([self._embed(word) for word in words])
