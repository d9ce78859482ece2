"""CLIP and the aggregation network together, under the names of the release's files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fineclip.models.trunks import TransformerTrunk, build_trunk
from fineclip.text.templates import Template
from segmentation.modeling.aggregator import CostAggregator
from segmentation.modeling.class_text import ClassTextEncoder
from segmentation.modeling.dense_features import (
    DenseFeatures,
    Residual,
    check_taps,
    default_taps,
    extract_features,
)
from segmentation.modeling.split_attention import split_attention_weights


class Predictor(nn.Module):
    """A CLIP model with dense features and class texts, and the network that compares them.

    Args:
        clip_model: An open_clip model with a transformer image tower; its packed attention weights
            are separated in place (:class:`segmentation.modeling.SplitAttention`).
        transformer: The aggregation network (the name is that of the release's keys).
        tokenizer: Maps a list of strings to (n, L) int64 token ids.
        templates: Prompts, as :func:`fineclip.text.get_templates` takes them.
        average_prompts: See :class:`ClassTextEncoder`.
        first_synonym: See :class:`ClassTextEncoder`.
        guidance_layers: Blocks whose outputs guide the decoder, from 0; None: the ends of the
            tower's first and second third.
        residual: See :func:`extract_features`.
        prompt_depth: Blocks that get learned prompt tokens.
        prompt_length: Prompt tokens of such a block; 0: none.

    Raises:
        ValueError: An image tower without transformer blocks, taps or prompts outside of it, or an
            aggregation network made for other widths or numbers of prompts.
    """

    def __init__(
        self,
        clip_model: nn.Module,
        transformer: CostAggregator,
        *,
        tokenizer: Callable[[list[str]], Tensor],
        templates: str | Sequence[str] | Template = "catseg",
        average_prompts: bool = False,
        first_synonym: bool = True,
        guidance_layers: Sequence[int] | None = None,
        residual: Residual = "class_token",
        prompt_depth: int = 0,
        prompt_length: int = 0,
    ) -> None:
        super().__init__()
        if residual not in ("class_token", "own"):
            raise ValueError(f"unknown residual {residual!r}; known: class_token, own")
        self.trunk = transformer_trunk(clip_model)
        split_attention_weights(clip_model)
        self.clip_model = clip_model
        self.transformer = transformer
        self.text = ClassTextEncoder(
            clip_model,
            tokenizer,
            templates=templates,
            average=average_prompts,
            first_synonym=first_synonym,
        )
        if self.text.num_prompts != transformer.prompt_channel:
            raise ValueError(
                f"the templates give {self.text.num_prompts} prompts a class, the aggregation "
                f"network takes {transformer.prompt_channel}: average them, or make it with "
                f"prompt_channel={self.text.num_prompts}"
            )
        num_blocks = len(self.trunk.blocks)
        self.guidance_layers = tuple(guidance_layers or default_taps(num_blocks))
        check_taps(self.guidance_layers, num_blocks)
        if len(self.guidance_layers) != 2:
            raise ValueError(f"two guidance layers are needed, got {list(self.guidance_layers)}")
        self.residual = residual
        if prompt_depth and prompt_length:
            self._add_prompts(prompt_depth, prompt_length)

    @property
    def prompt_tokens(self) -> nn.Parameter | None:
        """(depth, length, C) deep prompts of the image tower, or None."""
        holder = getattr(self.clip_model.visual, "transformer", None)
        return getattr(holder, "prompt_tokens", None)

    def _add_prompts(self, depth: int, length: int) -> None:
        visual, num_blocks = self.clip_model.visual, len(self.trunk.blocks)
        if not 0 < depth <= num_blocks or length < 1:
            raise ValueError(
                f"{length} prompts in {depth} blocks: the image tower has {num_blocks} blocks"
            )
        if not hasattr(visual, "transformer"):
            # timm's towers name their blocks otherwise; the prompts keep the release's name.
            visual.transformer = nn.Module()
        patch = math.prod(self.trunk.patch_size)
        width = self.trunk.width
        # Xavier's rule for a patch embedding, as in visual prompt tuning (Jia et al., ECCV 2022).
        bound = math.sqrt(6 / (3 * patch + width))
        tokens = torch.empty(depth, length, width).uniform_(-bound, bound)
        visual.transformer.prompt_tokens = nn.Parameter(tokens)

    def train(self, mode: bool = True) -> Predictor:
        """Text features of another training state are forgotten."""
        if mode:
            self.text.clear()
        return super().train(mode)

    def features(self, images: Tensor) -> DenseFeatures:
        """Dense map and taps of (B, 3, H, W) normalised images."""
        return extract_features(
            self.trunk,
            images,
            taps=self.guidance_layers,
            residual=self.residual,
            prompts=self.prompt_tokens,
        )

    def forward(self, dense: Tensor, guidance: Sequence[Tensor], names: Sequence[str]) -> Tensor:
        """Scores classes.

        Args:
            dense: (B, D, h, w) of :meth:`features`; it is the first guidance map as well.
            guidance: Maps at 2 and 4 times the grid.
            names: T class names.

        Returns:
            (B, T, 4h, 4w) logits.
        """
        return self.transformer(dense, self.text(names), (dense, *guidance))


class SegmentationHead(nn.Module):
    """Holds the predictor where the release's files have it, and the two vocabularies.

    Args:
        predictor: The predictor.
        train_classes: Names trained with.
        test_classes: Names answered with; None: those trained with.
        ignore_value: Label of pixels without a class.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        train_classes: Sequence[str],
        test_classes: Sequence[str] | None = None,
        ignore_value: int = 255,
    ) -> None:
        super().__init__()
        self.predictor = predictor
        self.train_classes = tuple(train_classes)
        self.test_classes = tuple(train_classes if test_classes is None else test_classes)
        self.ignore_value = ignore_value

    def forward(
        self, dense: Tensor, guidance: Sequence[Tensor], names: Sequence[str] | None = None
    ) -> Tensor:
        """Logits (B, T, 4h, 4w) of the named classes, by default those of the current mode."""
        if names is None:
            names = self.train_classes if self.training else self.test_classes
        return self.predictor(dense, guidance, names)


def transformer_trunk(clip_model: nn.Module) -> TransformerTrunk:
    """The adapter of a CLIP's image tower.

    Raises:
        ValueError: The tower has no transformer blocks.
    """
    trunk = build_trunk(clip_model.visual)
    if not isinstance(trunk, TransformerTrunk):
        raise ValueError(
            f"CAT-Seg reads the blocks of a transformer; {type(clip_model.visual).__name__} is none"
        )
    return trunk
