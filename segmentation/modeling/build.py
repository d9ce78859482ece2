"""Builds segmenters from names and numbers, and fills them from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fineclip.checkpoints import CheckpointError
from fineclip.checkpoints.conversion import convert_source
from fineclip.checkpoints.source import read_source
from fineclip.models import DenseCLIP
from fineclip.text import get_templates
from segmentation.modeling.aggregator import CostAggregator
from segmentation.modeling.dense_features import Residual
from segmentation.modeling.finetune import apply_finetune_mode
from segmentation.modeling.predictor import Predictor, SegmentationHead, transformer_trunk
from segmentation.modeling.segmenter import Segmenter

# OpenAI's names, as the reference's configurations have them. Their weights need the approximate
# GELU they were trained with.
OPENAI_NAMES = {
    "ViT-B/16": "ViT-B-16-quickgelu",
    "ViT-B/32": "ViT-B-32-quickgelu",
    "ViT-L/14": "ViT-L-14-quickgelu",
    "ViT-L/14@336px": "ViT-L-14-336-quickgelu",
}


def build_predictor(
    clip: DenseCLIP,
    *,
    finetune: str = "attention",
    templates: str | Sequence[str] = "catseg",
    average_prompts: bool = False,
    first_synonym: bool = True,
    guidance_layers: Sequence[int] | None = None,
    residual: Residual = "class_token",
    prompt_depth: int = 0,
    prompt_length: int = 0,
    **aggregator: Any,
) -> Predictor:
    """Puts a CLIP model and a new aggregation network together.

    Args:
        clip: The CLIP model; its attention weights are separated in place.
        finetune: See :func:`segmentation.modeling.apply_finetune_mode`.
        templates: See :class:`segmentation.modeling.Predictor`, as the following.
        average_prompts: One vector per class in place of one channel per template.
        first_synonym: Use the first of a class's names only.
        guidance_layers: Tapped blocks.
        residual: Of the last block.
        prompt_depth: Blocks with learned prompt tokens.
        prompt_length: Their number per block.
        **aggregator: Arguments of :class:`segmentation.modeling.CostAggregator`, whose widths are
            CLIP's and whose prompt channels are those of the templates.

    Raises:
        ValueError: Settings that do not go together.
    """
    prompts = 1 if average_prompts else len(get_templates(templates)("thing"))
    network = CostAggregator(
        text_guidance_dim=clip.embed_dim,
        appearance_guidance_dim=clip.embed_dim,
        prompt_channel=prompts,
        **aggregator,
    )
    predictor = Predictor(
        clip.clip,
        network,
        tokenizer=_Tokenizer(clip),
        templates=templates,
        average_prompts=average_prompts,
        first_synonym=first_synonym,
        guidance_layers=guidance_layers,
        residual=residual,
        prompt_depth=prompt_depth,
        prompt_length=prompt_length,
    )
    apply_finetune_mode(predictor, finetune)
    return predictor


def build_segmenter(
    clip: str | DenseCLIP,
    pretrained: str | None = None,
    *,
    train_classes: Sequence[str],
    test_classes: Sequence[str] | None = None,
    ignore_value: int = 255,
    grid: tuple[int, int] = (24, 24),
    decoder_guidance_dims: Sequence[int] = (256, 128),
    segmenter: dict[str, Any] | None = None,
    **predictor: Any,
) -> Segmenter:
    """Makes a segmenter.

    Args:
        clip: A name of open_clip's, or OpenAI's ("ViT-B/16"), or a model.
        pretrained: open_clip tag or path of a checkpoint in any format that
            :func:`fineclip.checkpoints.load` reads; only with a name.
        train_classes: Names trained with.
        test_classes: Names answered with; None: those trained with.
        ignore_value: Label of pixels without a class.
        grid: (height, width) in patches CLIP's input is resized to.
        decoder_guidance_dims: Channels of the two upsampled taps.
        segmenter: Further arguments of :class:`segmentation.modeling.Segmenter`.
        **predictor: Arguments of :func:`build_predictor`.

    Raises:
        ValueError: Settings that do not go together, or an unknown name.
        FileNotFoundError: ``pretrained`` does not exist.
    """
    if isinstance(clip, str):
        clip = create_clip(clip, pretrained)
    elif pretrained is not None:
        raise ValueError("pretrained goes with the name of a model, not with a model")
    patch = transformer_trunk(clip.clip).patch_size
    head = SegmentationHead(
        build_predictor(clip, decoder_guidance_dims=decoder_guidance_dims, **predictor),
        train_classes=train_classes,
        test_classes=test_classes,
        ignore_value=ignore_value,
    )
    return Segmenter(
        head,
        upsample_dims=decoder_guidance_dims,
        clip_resolution=(grid[0] * patch[0], grid[1] * patch[1]),
        **(segmenter or {}),
    )


class _Tokenizer:
    """A model's tokenizer, made when it is first needed: some have to be downloaded."""

    def __init__(self, clip: DenseCLIP) -> None:
        self.clip = clip

    def __call__(self, texts: list[str]) -> Tensor:
        return self.clip.tokenizer(texts)


def create_clip(name: str, pretrained: str | None = None) -> DenseCLIP:
    """:meth:`DenseCLIP.create` that knows OpenAI's names, too."""
    return DenseCLIP.create(OPENAI_NAMES.get(name, name), pretrained)


def load_checkpoint(model: Segmenter, path: str | Path) -> None:
    """Loads a whole CAT-Seg model: the release's, or one saved here, every key matching.

    Args:
        model: Filled in place. Stored attention masks, which belong to one grid, are not needed.
        path: A ``.pth`` file with the weights under ``model``, a bare state dict, or safetensors.

    Raises:
        FileNotFoundError: The path does not exist.
        CheckpointError: It cannot be read, is no CAT-Seg model, or does not fit.
    """
    source = read_source(path, mmap=True)
    if source.format != "catseg" or not source.rest:
        raise CheckpointError(
            f"{path} is {source.description}, not a CAT-Seg model with its aggregation network; to "
            "start from the weights of a CLIP model, build the segmenter with them"
        )
    tensors = {
        key: value
        for key, value in convert_source(source, to="catseg").tensors.items()
        if not key.endswith(".attn_mask")
    }
    _check_fit(model, tensors, path)
    model.load_state_dict(tensors)


def _check_fit(model: nn.Module, tensors: dict[str, Any], path: str | Path) -> None:
    expected = model.state_dict()
    problems = []
    for title, keys in (
        ("missing", sorted(expected.keys() - tensors.keys())),
        ("unknown", sorted(tensors.keys() - expected.keys())),
        (
            "shape",
            [
                f"{key} {tuple(tensors[key].shape)} instead of {tuple(expected[key].shape)}"
                for key in sorted(expected.keys() & tensors.keys())
                if expected[key].shape != tensors[key].shape
            ],
        ),
    ):
        if keys:
            more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
            problems.append(f"{title}: {', '.join(keys[:4])}{more}")
    if problems:
        raise CheckpointError(f"{path} does not fit the segmenter; {'; '.join(problems)}")
