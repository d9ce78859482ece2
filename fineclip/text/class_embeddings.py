"""Text embeddings of classes: prompts encoded, averaged and normalised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .templates import Template, get_templates


class TextEncoder(Protocol):
    """What is needed of a model (``DenseCLIP`` has it)."""

    device: torch.device

    def tokenizer(self, texts: list[str]) -> Tensor:
        """Tokens (n, T) int64 of n texts."""

    def encode_text(self, tokens: Tensor, normalize: bool = True) -> Tensor:
        """Embeddings (n, D) of (n, T) tokens."""


@torch.no_grad()
def build_class_embeddings(
    clip: TextEncoder,
    names: Sequence[str],
    templates: str | Sequence[str] | Template = "vild",
    batch_size: int = 256,
) -> Tensor:
    """Embeds each class as the normalised mean of the normalised embeddings of its prompts.

    The rule of ViLD, CLIPSelf and FineCLIP: encode, L2-normalise each prompt, average over a
    class's prompts, L2-normalise. Put the model into eval mode first if its text tower has
    dropout.

    Args:
        clip: The model; its device is used.
        names: K category names as the data set writes them.
        templates: Anything :func:`fineclip.text.templates.get_templates` takes.
        batch_size: Prompts encoded at a time.

    Returns:
        (K, D) float32 unit vectors on the model's device.

    Raises:
        ValueError: No names, an empty name, or unknown templates.
    """
    fill = get_templates(templates)
    if not names:
        raise ValueError("no class names given")
    for index, name in enumerate(names):
        if not name.strip():
            raise ValueError(f"class {index} has an empty name")
    prompts = [fill(name) for name in names]
    flat = [prompt for of_class in prompts for prompt in of_class]
    embeddings = torch.cat(
        [
            F.normalize(
                clip.encode_text(
                    clip.tokenizer(flat[start : start + batch_size]).to(clip.device)
                ).float(),
                dim=-1,
            )
            for start in range(0, len(flat), batch_size)
        ]
    )  # (all prompts, D)
    means = [of_class.mean(dim=0) for of_class in embeddings.split([len(p) for p in prompts])]
    return F.normalize(torch.stack(means), dim=-1)
