"""``CATSegHead`` in detectron2's registry of semantic heads."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY

from fineclip.text import load_vocabulary
from segmentation.data.registered import training_names
from segmentation.modeling.build import OPENAI_NAMES, build_predictor, create_clip
from segmentation.modeling.finetune import FINETUNE_MODES
from segmentation.modeling.predictor import Predictor, SegmentationHead
from segmentation.modeling.reading import choose_residual

# CLIP_WEIGHTS of a model that a complete checkpoint will be loaded into.
RANDOM_WEIGHTS = "none"


@SEM_SEG_HEADS_REGISTRY.register()
class CATSegHead(SegmentationHead):
    """:class:`SegmentationHead` that can be built from a configuration.

    Args:
        predictor: CLIP and the aggregation network.
        **head: Arguments of :class:`SegmentationHead`.
    """

    @configurable
    def __init__(self, predictor: Predictor, **head: Any) -> None:
        super().__init__(predictor, **head)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Any = None) -> dict[str, Any]:
        """Reads ``MODEL.SEM_SEG_HEAD``; ``input_shape`` is detectron2's and has no use here.

        Raises:
            ValueError: Settings that do not go together.
            FileNotFoundError: A class list or checkpoint that does not exist.
        """
        head = cfg.MODEL.SEM_SEG_HEAD
        # Before the weights are read: a typo should not cost minutes.
        train_classes = training_names(cfg)
        test = head.TEST_CLASS_JSON
        test_classes = load_vocabulary(test).prompt_names if test else None
        weights = head.CLIP_WEIGHTS or ("openai" if head.CLIP_PRETRAINED in OPENAI_NAMES else None)
        weights = None if weights == RANDOM_WEIGHTS else weights
        clip, origin = create_clip(head.CLIP_PRETRAINED, weights)
        for key in ("TEXT_GUIDANCE_DIM", "APPEARANCE_GUIDANCE_DIM"):
            if head[key] != clip.embed_dim:
                raise ValueError(
                    f"MODEL.SEM_SEG_HEAD.{key} is {head[key]}, the embeddings of "
                    f"{head.CLIP_PRETRAINED} have {clip.embed_dim} dimensions: set it to that"
                )
        single = cfg.MODEL.PROMPT_ENSEMBLE_TYPE == "single"
        # The reference freezes CLIP for every word it does not know.
        known = head.CLIP_FINETUNE in FINETUNE_MODES
        predictor = build_predictor(
            clip,
            finetune=head.CLIP_FINETUNE if known else _frozen(head.CLIP_FINETUNE),
            templates="catseg" if single else cfg.MODEL.PROMPT_ENSEMBLE_TYPE,
            average_prompts=cfg.MODEL.PROMPT_ENSEMBLE,
            first_synonym=head.FIRST_SYNONYM,
            guidance_layers=head.GUIDANCE_LAYERS or None,
            residual=choose_residual(head.CLIP_RESIDUAL, clip, origin),
            prompt_depth=head.PROMPT_DEPTH,
            prompt_length=head.PROMPT_LENGTH,
            text_guidance_proj_dim=head.TEXT_GUIDANCE_PROJ_DIM,
            appearance_guidance_proj_dim=head.APPEARANCE_GUIDANCE_PROJ_DIM,
            decoder_dims=head.DECODER_DIMS,
            decoder_guidance_dims=head.DECODER_GUIDANCE_DIMS,
            decoder_guidance_proj_dims=head.DECODER_GUIDANCE_PROJ_DIMS,
            num_layers=head.NUM_LAYERS,
            num_heads=head.NUM_HEADS,
            hidden_dim=head.HIDDEN_DIMS,
            pooling_size=head.POOLING_SIZES,
            window_size=head.WINDOW_SIZES,
            attention_type=head.ATTENTION_TYPE,
            pad_length=head.PAD_LENGTH,
            doubled_residual=head.DOUBLED_RESIDUAL,
        )
        return {
            "predictor": predictor,
            "train_classes": train_classes,
            "test_classes": test_classes,
            "ignore_value": head.IGNORE_VALUE,
        }


def _frozen(word: str) -> str:
    if word.lower() in ("", "none", "no", "freeze"):
        return "frozen"
    raise ValueError(
        f"MODEL.SEM_SEG_HEAD.CLIP_FINETUNE is {word!r}; known: {', '.join(FINETUNE_MODES)}"
    )
