"""CLIP and the aggregation network together, under the names of the release's files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fineclip.models import DenseCLIP
from fineclip.models.trunks import Residual, TransformerTrunk, TrunkTaps
from segmentation.modeling.aggregator import CostAggregator
from segmentation.modeling.class_text import ClassTextEncoder
from segmentation.modeling.gradients import connected
from segmentation.modeling.split_attention import split_attention_weights


class Predictor(nn.Module):
    """A CLIP model with dense features and class texts, and the network that compares them.

    Args:
        clip: A model with a transformer image tower; its packed attention weights are separated in
            place (:class:`segmentation.modeling.SplitAttention`).
        transformer: The aggregation network (the name is that of the release's keys).
        text: Encodes class names with the same model.
        guidance_layers: Blocks whose outputs guide the decoder, from 0; None: the ends of the
            tower's first and second third.
        residual: See :meth:`fineclip.models.trunks.TransformerTrunk.forward_taps`.
        prompt_depth: Blocks that get learned prompt tokens.
        prompt_length: Prompt tokens of such a block; 0: none.

    Raises:
        ValueError: An image tower without transformer blocks, taps or prompts outside of it, or an
            aggregation network made for other widths or numbers of prompts.
    """

    clip_model: Any  # open_clip's models differ in what they hold

    def __init__(
        self,
        clip: DenseCLIP,
        transformer: CostAggregator,
        *,
        text: ClassTextEncoder,
        guidance_layers: Sequence[int] | None = None,
        residual: Residual = "class_token",
        prompt_depth: int = 0,
        prompt_length: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(clip.trunk, TransformerTrunk):
            raise ValueError(
                "CAT-Seg reads the blocks of a transformer; "
                f"{type(clip.clip.visual).__name__} is none"
            )
        if text.num_channels != transformer.prompt_channel:
            raise ValueError(
                f"the templates give {text.num_channels} prompts a class, the aggregation "
                f"network takes {transformer.prompt_channel}: average them, or make it with "
                f"prompt_channel={text.num_channels}"
            )
        clip.trunk.check_residual(residual)
        split_attention_weights(clip.clip)
        self.trunk = clip.trunk  # no module: it reaches into self.clip_model
        self.clip_model = clip.clip
        self.transformer = transformer
        self.text = text
        self.guidance_layers = tuple(guidance_layers or default_taps(len(self.trunk.blocks)))
        self.trunk.check_taps(self.guidance_layers, "guidance layers")
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

    def features(self, images: Tensor) -> TrunkTaps:
        """Dense map and taps of (B, 3, H, W) normalised images."""
        maps, dense = self.trunk.forward_taps(
            images,
            self.guidance_layers,
            dense=True,
            residual=self.residual,
            prompts=self.prompt_tokens,
        )
        assert dense is not None  # asked for
        # The last block's queries are trained, too, and have no part in it.
        return TrunkTaps(maps, connected(dense, self.trunk.parameters_unused_by_dense()))

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


def default_taps(num_blocks: int) -> tuple[int, int]:
    """The ends of the first and second third of a tower: 3 and 7 of 12, 7 and 15 of 24."""
    return max(0, num_blocks // 3 - 1), max(0, 2 * num_blocks // 3 - 1)
