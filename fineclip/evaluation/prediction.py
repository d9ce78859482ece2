"""What evaluation asks of a CLIP: the embeddings of a batch, sorted by image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.models.dense_clip import DenseCLIP
from fineclip.models.pooling import pool_boxes, pool_masks
from fineclip.models.preprocessor import CLIPPreprocessor

Step = Callable[[Mapping[str, Any]], list[dict[str, Any]]]
"""From a batch to one result per image."""

GuideFeatures = Callable[[Tensor], Tensor]
"""From a CLIP's inputs (B, 3, H, W) to the features (B, C, h, w) of a second model."""

_MOST_VIEWS = 32
"""Views that are encoded at a time."""


@torch.no_grad()
def predict(
    clip: DenseCLIP,
    *,
    images: Tensor,
    data_samples: Sequence[Mapping[str, Any]],
    boxes: Tensor | None = None,
    masks: Tensor | None = None,
    region_image: Tensor | None = None,
    texts: Tensor | None = None,
    text_image: Tensor | None = None,
    dense_map: str = "value",
    guide: GuideFeatures | None = None,
) -> list[dict[str, Any]]:
    """Unit-norm float32 embeddings, per image.

    Args:
        clip: The model, in eval mode.
        images: (B, 3, H, W), normalised.
        data_samples: One dict per image, copied into the result.
        boxes: (R, 4) xyxy normalised to [0, 1] of the input.
        masks: (R, h, w) shares of the map's cells that regions cover, in place of boxes.
        region_image: (R,) int64 image index of each box or mask.
        texts: (M, T) int64 tokens, any number per image.
        text_image: (M,) int64 image index of each text.
        dense_map: The map that regions are pooled from, see :meth:`DenseCLIP.encode_dense`.
        guide: A second model that guides it.

    Returns:
        Per image its data sample with ``image_embedding`` (D,) and, where inputs were given,
        ``region_embeddings`` (n_i, D) and ``text_embeddings`` (m_i, D).

    Raises:
        ValueError: For boxes or masks without ``region_image``.
    """
    results = [dict(sample) for sample in data_samples]
    if boxes is None and masks is None:
        image = clip.encode_image(images)
    elif region_image is None:
        raise ValueError("boxes come with region_image, the image that each of them is in")
    else:
        found = clip.encode_visual(
            images, {"image", "dense"}, dense_map=dense_map, guide=guide and guide(images)
        )
        image, dense = found["image"], found["dense"]
        if boxes is not None:
            pooled = pool_boxes(dense, boxes, region_image)
        else:
            assert masks is not None
            pooled = pool_masks(dense, masks, region_image)
        regions = F.normalize(pooled, dim=1)
        for index, result in enumerate(results):
            result["region_embeddings"] = regions[region_image == index]
    for result, embedding in zip(results, image, strict=True):
        result["image_embedding"] = embedding
    if texts is not None:
        embedded = clip.encode_text(texts)
        for index, result in enumerate(results):
            result["text_embeddings"] = embedded[text_image == index]
    return results


def predictor(
    clip: DenseCLIP, dense_map: str = "value", guide: GuideFeatures | None = None
) -> Step:
    """:func:`predict` for batches as a data loader yields them: on the CPU, pixels in uint8.

    Args:
        clip: The model, in eval mode, on the device that it is to run on.
        dense_map: See :func:`predict`.
        guide: See :func:`predict`.
    """
    prepare = CLIPPreprocessor(mean=clip.image_mean, std=clip.image_std).to(clip.device)
    return lambda batch: predict(clip, **prepare(batch), dense_map=dense_map, guide=guide)


def view_predictor(
    clip: DenseCLIP, dense_map: str = "value", guide: GuideFeatures | None = None
) -> Step:
    """Dense maps of images' views, for such batches.

    Args:
        clip: The model, in eval mode, on the device that it is to run on.
        dense_map: See :meth:`DenseCLIP.encode_dense`.
        guide: A second model that guides it.

    Returns:
        From a batch to each image's data sample, which has ``views``, with ``dense`` (v, D, h, w).
    """
    prepare = CLIPPreprocessor(mean=clip.image_mean, std=clip.image_std).to(clip.device)

    @torch.no_grad()
    def step(batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        ready = prepare(batch)
        maps = [
            clip.encode_dense(part, dense_map=dense_map, guide=guide and guide(part))
            for part in ready["images"].split(_MOST_VIEWS)
        ]
        counts = [len(sample["views"].offsets) for sample in ready["data_samples"]]
        dense = torch.cat(maps).split(counts)
        return [
            {**sample, "dense": own}
            for sample, own in zip(ready["data_samples"], dense, strict=True)
        ]

    return step
