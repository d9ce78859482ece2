"""FineCLIP's step without its savings, for comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from fineclip.embeddings import Embeddings
from fineclip.models.pooling import pool_boxes
from fineclip.pretraining import FineCLIPPretrainer


class PaddedPretrainer(FineCLIPPretrainer):
    """A step with all that can be left out: nobody's released code does every part of it.

    The image passes through the tower twice, crops and region captions fill all box slots (those
    without a box are cut away from the embeddings), texts have the full context.

    Attributes:
        box_limit: Slots per image.
    """

    box_limit: int

    def embed(self, **batch: Tensor) -> Embeddings:
        """See :meth:`FineCLIPPretrainer.embed`."""
        images, crops, texts = batch["images"], batch["crops"], batch["texts"]
        region_texts = batch["region_texts"]
        slots = len(images) * self.box_limit
        all_crops = crops.new_zeros(slots, *crops.shape[1:])
        all_crops[: len(crops)] = crops
        all_texts = region_texts.new_zeros(slots, region_texts.shape[1])
        all_texts[: len(crops)] = region_texts
        clip = self.clip.clip
        result = Embeddings(logit_scale=self.clip.logit_scale)
        result.image = self.clip.encode_image(images)
        dense = self.clip.encode_dense(images)
        result.region = pool_boxes(dense, batch["boxes"], batch["region_image"])
        result.region_image = batch["region_image"]
        result.crop = self.clip.encode_image(all_crops)[: len(crops)]
        with torch.set_grad_enabled("text" in self.trainable):
            result.text = clip.encode_text(texts, normalize=True).float()
            region_text = clip.encode_text(all_texts, normalize=True).float()
            result.region_text = region_text[: len(crops)]
        return result
