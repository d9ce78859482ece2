"""Builds segmenters from names and numbers, and fills them from files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fineclip.checkpoints import CheckpointError
from fineclip.checkpoints.compare import compare
from fineclip.checkpoints.conversion import convert_source
from fineclip.checkpoints.source import read_source
from fineclip.models import DenseCLIP
from fineclip.models.trunks import Residual
from segmentation.modeling.aggregator import CostAggregator
from segmentation.modeling.class_text import ClassTextEncoder
from segmentation.modeling.finetune import apply_finetune_mode
from segmentation.modeling.predictor import Predictor, SegmentationHead
from segmentation.modeling.reading import (
    AskedResidual,
    Origin,
    choose_residual,
    origin_of,
    read_as_trained,
)
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
        templates: See :class:`segmentation.modeling.ClassTextEncoder`, as the next two.
        average_prompts: One vector per class in place of one channel per template.
        first_synonym: Use the first of a class's names only.
        guidance_layers: See :class:`segmentation.modeling.Predictor`, as what follows.
        residual: Of the last block.
        prompt_depth: Blocks with learned prompt tokens.
        prompt_length: Their number per block.
        **aggregator: Arguments of :class:`segmentation.modeling.CostAggregator`, whose widths are
            CLIP's and whose prompt channels are those of the templates.

    Raises:
        ValueError: Settings that do not go together.
    """
    text = ClassTextEncoder(
        clip, templates=templates, average=average_prompts, first_synonym=first_synonym
    )
    network = CostAggregator(
        text_guidance_dim=clip.embed_dim,
        appearance_guidance_dim=clip.embed_dim,
        prompt_channel=text.num_channels,
        **aggregator,
    )
    predictor = Predictor(
        clip,
        network,
        text=text,
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
    residual: AskedResidual = "auto",
    segmenter: dict[str, Any] | None = None,
    **predictor: Any,
) -> Segmenter:
    """Makes a segmenter, and says which dense map it reads.

    Args:
        clip: A name of open_clip's, or OpenAI's ("ViT-B/16"), or a model.
        pretrained: open_clip tag or path of a checkpoint in any format that
            :func:`fineclip.checkpoints.load` reads; only with a name.
        train_classes: Names trained with.
        test_classes: Names answered with; None: those trained with.
        ignore_value: Label of pixels without a class.
        grid: (height, width) in patches CLIP's input is resized to.
        decoder_guidance_dims: Channels of the two upsampled taps.
        residual: Of the last block; see :func:`segmentation.modeling.choose_residual`.
        segmenter: Further arguments of :class:`segmentation.modeling.Segmenter`.
        **predictor: Arguments of :func:`build_predictor`.

    Raises:
        ValueError: Settings that do not go together, or an unknown name.
        FileNotFoundError: ``pretrained`` does not exist.
    """
    if isinstance(clip, str):
        clip, origin = create_clip(clip, pretrained)
    elif pretrained is not None:
        raise ValueError("pretrained goes with the name of a model, not with a model")
    else:
        origin = Origin("the model was given without its weights' origin", known=False)
    head = SegmentationHead(
        build_predictor(
            clip,
            decoder_guidance_dims=decoder_guidance_dims,
            residual=choose_residual(residual, clip, origin),
            **predictor,
        ),
        train_classes=train_classes,
        test_classes=test_classes,
        ignore_value=ignore_value,
    )
    return Segmenter(
        head,
        upsample_dims=decoder_guidance_dims,
        clip_resolution=(grid[0] * clip.patch_size[0], grid[1] * clip.patch_size[1]),
        **(segmenter or {}),
    )


def create_clip(name: str, pretrained: str | None = None) -> tuple[DenseCLIP, Origin | None]:
    """:meth:`DenseCLIP.create` that knows OpenAI's names, too, and where weights come from."""
    name = OPENAI_NAMES.get(name, name)
    clip = DenseCLIP.create(name, pretrained)
    return clip, None if pretrained is None else origin_of(name, pretrained)


def load_checkpoint(model: Segmenter, path: str | Path) -> None:
    """Loads a whole CAT-Seg model: the release's, or one saved here, every key matching.

    What the file says of the dense map that it was trained to read is what it will read; the
    release's says nothing.

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
    if misfit := compare(tensors, model.state_dict()):
        raise CheckpointError(f"{path} does not fit the segmenter; {misfit.describe()}")
    model.load_state_dict(tensors)
    read_as_trained(model.sem_seg_head.predictor, source.provenance.residual, path)
