"""Tokenizers by model name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # vocabularies and templates need no torch
    from torch import Tensor

Tokenizer = Callable[[list[str]], "Tensor"]
"""Maps n strings to (n, T) int64 token ids."""


@functools.cache
def get_tokenizer(model_name: str, context_length: int | None = None) -> Tokenizer:
    """The tokenizer of a model that open_clip knows, this package's tiny models included.

    Data sets and the model of a run share one: to make it takes a tenth of a second.

    Args:
        model_name: Name of the model.
        context_length: Number of tokens T; None: the model's own.

    Raises:
        ValueError: open_clip does not know the name.
    """
    # Importing open_clip takes seconds (it imports transformers), and data sets have other uses.
    import open_clip

    import fineclip.tiny_models  # noqa: F401  (registers the tiny model names; needs open_clip)

    if ":" not in model_name and model_name.replace("/", "-") not in open_clip.list_models():
        raise ValueError(f"tokenizer: unknown model {model_name!r}; see open_clip.list_models()")
    return open_clip.get_tokenizer(model_name, context_length=context_length)
