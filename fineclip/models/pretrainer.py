"""FineCLIPPretrainer: batch -> embeddings -> objectives."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from fineclip.embeddings import Embeddings
from fineclip.models.dense_clip import DenseCLIP
from fineclip.models.pooling import pool_boxes
from fineclip.models.preprocessor import RegionTextPreprocessor
from fineclip.objectives import Objective
from fineclip.parallel import gather_embeddings
from fineclip.registry import MODELS, OBJECTIVES

PARTS = ("image", "text", "logit_scale")


@MODELS.register_module()
class FineCLIPPretrainer(BaseModel):
    """Trains a :class:`DenseCLIP` with any list of objectives.

    Only the embeddings that the objectives need are computed: image and dense path share all
    blocks but the last, captions and region captions are one pass of the text tower. Embeddings
    are gathered over processes before the objectives see them, so every rank evaluates the
    losses of the global batch.

    Args:
        clip: The model, or its config.
        objectives: Objectives or their configs; their losses are summed.
        trainable: Which parts train, out of "image", "text" and "logit_scale". The default is
            FineCLIP's: the text tower is frozen and stays in eval mode.
        data_preprocessor: Config of the preprocessor; by default pixels are normalised with the
            model's own mean and std.

    Raises:
        ValueError: For an unknown part in ``trainable``.
    """

    def __init__(
        self,
        clip: DenseCLIP | dict[str, Any],
        objectives: Sequence[Objective | dict[str, Any]],
        *,
        trainable: Sequence[str] = ("image", "logit_scale"),
        data_preprocessor: nn.Module | dict[str, Any] | None = None,
    ) -> None:
        if unknown := sorted(set(trainable) - set(PARTS)):
            raise ValueError(f"trainable: unknown {', '.join(unknown)}; known: {', '.join(PARTS)}")
        clip = MODELS.build(clip) if isinstance(clip, dict) else clip
        if data_preprocessor is None:
            data_preprocessor = RegionTextPreprocessor(mean=clip.image_mean, std=clip.image_std)
        super().__init__(data_preprocessor=data_preprocessor)
        self.clip = clip
        self.objectives = nn.ModuleList(
            OBJECTIVES.build(o) if isinstance(o, dict) else o for o in objectives
        )
        self.needs = frozenset().union(*(objective.needs for objective in self.objectives))
        self.trainable = tuple(trainable)
        for name, parameter in self.clip.clip.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and _part_of(name) in trainable)

    def train(self, mode: bool = True) -> FineCLIPPretrainer:
        """Frozen towers stay in eval mode."""
        super().train(mode)
        for name, module in self.clip.clip.named_children():
            if _part_of(name) not in self.trainable:
                module.eval()
        return self

    def forward(self, mode: str = "loss", **batch: Any) -> Any:
        """Mmengine's entry point; see :meth:`loss`, :meth:`embed` and :meth:`predict`.

        Args:
            mode: "loss", "tensor" or "predict".
            **batch: The fields of the preprocessed batch.
        """
        if mode == "loss":
            return self.loss(**batch)
        if mode == "tensor":
            return self.embed(**batch)
        if mode == "predict":
            return self.predict(**batch)
        raise ValueError(f"mode must be 'loss', 'tensor' or 'predict', got {mode!r}")

    def loss(self, **batch: Tensor) -> dict[str, Tensor]:
        """Losses of the global batch, named ``loss_*``, and what is logged beside them."""
        local = self.embed(**batch)
        embeddings = gather_embeddings(local)
        outputs = {}
        for objective in self.objectives:
            outputs.update(objective(embeddings))
        outputs["logit_scale"] = self.clip.logit_scale.detach().float()
        if embeddings.region is not None:
            outputs["num_regions"] = outputs["logit_scale"].new_tensor(len(embeddings.region))
        return outputs

    def embed(
        self,
        *,
        images: Tensor,
        texts: Tensor | None = None,
        boxes: Tensor | None = None,
        region_image: Tensor | None = None,
        crops: Tensor | None = None,
        region_texts: Tensor | None = None,
    ) -> Embeddings:
        """Embeds what the objectives need of one batch.

        Args:
            images: (B, 3, H, W).
            texts: (B, T) int64 caption tokens.
            boxes: (R, 4) xyxy normalised to [0, 1] of the input.
            region_image: (R,) int64 image index of each box.
            crops: (R, 3, h, w).
            region_texts: (R, T) int64 region caption tokens.
        """
        result = Embeddings(logit_scale=self.clip.logit_scale)
        with self._grad_if("image"):
            dense = None
            if {"image", "region"} <= self.needs:
                result.image, dense = self.clip.encode_image_and_dense(images)
            elif "image" in self.needs:
                result.image = self.clip.encode_image(images)
            elif "region" in self.needs:
                dense = self.clip.encode_dense(images)
            if dense is not None:
                result.region = pool_boxes(dense, boxes, region_image)
                result.region_image = region_image if result.image is not None else None
            if "crop" in self.needs:
                result.crop = self.clip.encode_image(crops)
        with self._grad_if("text"):
            names = [name for name in ("text", "region_text") if name in self.needs]
            tokens = [{"text": texts, "region_text": region_texts}[name] for name in names]
            if names:
                embedded = self.clip.encode_text(torch.cat(tokens))
                parts = embedded.split([len(t) for t in tokens])
                for name, part in zip(names, parts, strict=True):
                    setattr(result, name, part)
        return result

    @torch.no_grad()
    def predict(
        self,
        *,
        images: Tensor,
        data_samples: Sequence[dict[str, Any]],
        boxes: Tensor | None = None,
        region_image: Tensor | None = None,
        texts: Tensor | None = None,
        text_image: Tensor | None = None,
    ) -> list[dict[str, Any]]:
        """Unit-norm float32 embeddings for evaluation, per image.

        Args:
            images: (B, 3, H, W).
            data_samples: One dict per image, copied into the result.
            boxes: (R, 4) xyxy normalised to [0, 1] of the input.
            region_image: (R,) int64 image index of each box.
            texts: (M, T) int64 tokens, any number per image.
            text_image: (M,) int64 image index of each text.

        Returns:
            Per image its data sample with ``image_embedding`` (D,) and, where inputs were given,
            ``region_embeddings`` (n_i, D) and ``text_embeddings`` (m_i, D).
        """
        results = [dict(sample) for sample in data_samples]
        if boxes is None:
            image = self.clip.encode_image(images)
        else:
            image, dense = self.clip.encode_image_and_dense(images)
            regions = nn.functional.normalize(pool_boxes(dense, boxes, region_image), dim=1)
            for index, result in enumerate(results):
                result["region_embeddings"] = regions[region_image == index]
        for result, embedding in zip(results, image, strict=True):
            result["image_embedding"] = embedding
        if texts is not None:
            embedded = self.clip.encode_text(texts)
            for index, result in enumerate(results):
                result["text_embeddings"] = embedded[text_image == index]
        return results

    def _grad_if(self, part: str) -> Any:
        """No graph is built for a frozen tower."""
        return nullcontext() if part in self.trainable else torch.no_grad()


def _part_of(parameter_name: str) -> str:
    """Which of :data:`PARTS` a parameter or child of an open_clip model belongs to."""
    top = parameter_name.split(".")[0]
    if top == "visual":
        return "image"
    return "logit_scale" if top in ("logit_scale", "logit_bias") else "text"
