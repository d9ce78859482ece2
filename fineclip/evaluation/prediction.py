"""What evaluation asks of a CLIP: the embeddings of a batch, sorted by image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.models.dense_clip import DenseCLIP
from fineclip.models.pooling import pool_boxes
from fineclip.models.preprocessor import CLIPPreprocessor


@torch.no_grad()
def predict(
    clip: DenseCLIP,
    *,
    images: Tensor,
    data_samples: Sequence[Mapping[str, Any]],
    boxes: Tensor | None = None,
    region_image: Tensor | None = None,
    texts: Tensor | None = None,
    text_image: Tensor | None = None,
) -> list[dict[str, Any]]:
    """Unit-norm float32 embeddings, per image.

    Args:
        clip: The model, in eval mode.
        images: (B, 3, H, W), normalised.
        data_samples: One dict per image, copied into the result.
        boxes: (R, 4) xyxy normalised to [0, 1] of the input.
        region_image: (R,) int64 image index of each box.
        texts: (M, T) int64 tokens, any number per image.
        text_image: (M,) int64 image index of each text.

    Returns:
        Per image its data sample with ``image_embedding`` (D,) and, where inputs were given,
        ``region_embeddings`` (n_i, D) and ``text_embeddings`` (m_i, D).

    Raises:
        ValueError: For boxes without ``region_image``.
    """
    results = [dict(sample) for sample in data_samples]
    if boxes is None:
        image = clip.encode_image(images)
    elif region_image is None:
        raise ValueError("boxes come with region_image, the image that each of them is in")
    else:
        image, dense = clip.encode_image_and_dense(images)
        regions = F.normalize(pool_boxes(dense, boxes, region_image), dim=1)
        for index, result in enumerate(results):
            result["region_embeddings"] = regions[region_image == index]
    for result, embedding in zip(results, image, strict=True):
        result["image_embedding"] = embedding
    if texts is not None:
        embedded = clip.encode_text(texts)
        for index, result in enumerate(results):
            result["text_embeddings"] = embedded[text_image == index]
    return results


def predictor(clip: DenseCLIP) -> Callable[[Mapping[str, Any]], list[dict[str, Any]]]:
    """:func:`predict` for batches as a data loader yields them: on the CPU, pixels in uint8.

    Args:
        clip: The model, in eval mode, on the device that it is to run on.
    """
    prepare = CLIPPreprocessor(mean=clip.image_mean, std=clip.image_std).to(clip.device)
    return lambda batch: predict(clip, **prepare(batch))
