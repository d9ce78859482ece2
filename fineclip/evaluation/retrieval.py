"""Image-text retrieval: recall at k in both directions, several captions per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fineclip.evaluation.image_metric import ImageMetric
from fineclip.evaluation.similarity import similarities
from fineclip.registry import METRICS


def retrieval_recall(
    image_embeddings: Tensor,
    text_embeddings: Tensor,
    text_image: Tensor,
    ks: Sequence[int] = (1, 5, 10),
    chunk_size: int = 512,
) -> dict[str, float]:
    """Recall at k by cosine similarity.

    Image to text: a query counts if any of the image's own captions is among its k most similar
    texts. Text to image: if the text's own image is among its k most similar images. Of
    equally similar candidates the one with the lower index comes first, so a model that gives
    everything one embedding scores like guessing. An image without caption is no query, yet
    remains a candidate for every text.

    Args:
        image_embeddings: (B, D) unit vectors.
        text_embeddings: (M, D) unit vectors.
        text_image: (M,) int64, the image each text describes.
        ks: Numbers of candidates looked at.
        chunk_size: Queries compared at a time; the result does not depend on it.

    Returns:
        ``i2t_r<k>`` and ``t2i_r<k>`` in percent; nothing if there is no text.

    Raises:
        ValueError: Shapes that do not fit or a ``text_image`` outside [0, B).
    """
    num_images, num_texts = len(image_embeddings), len(text_embeddings)
    text_image = text_image.detach().cpu().long()
    if text_image.shape != (num_texts,):
        raise ValueError(
            f"text_image must have one entry for each of the {num_texts} texts, got shape "
            f"{tuple(text_image.shape)}"
        )
    if not num_texts:
        return {}
    if text_image.min() < 0 or text_image.max() >= num_images:
        raise ValueError(
            f"text_image must be in [0, {num_images}), got {text_image.min().item()} to "
            f"{text_image.max().item()}"
        )
    captioned = text_image.unique()
    images = image_embeddings[captioned.to(image_embeddings.device)]
    i2t = torch.cat(
        [
            _rank_of_best(
                similarities(images[start : start + chunk_size], text_embeddings),
                captioned[start : start + chunk_size, None] == text_image,
            )
            for start in range(0, len(captioned), chunk_size)
        ]
    )
    every_image = torch.arange(num_images)
    t2i = torch.cat(
        [
            _rank_of_best(
                similarities(text_embeddings[start : start + chunk_size], image_embeddings),
                text_image[start : start + chunk_size, None] == every_image,
            )
            for start in range(0, num_texts, chunk_size)
        ]
    )
    return {
        f"{direction}_r{k}": float(100.0 * (ranks < k).double().mean())
        for direction, ranks in (("i2t", i2t), ("t2i", t2i))
        for k in ks
    }


def _rank_of_best(scores: Tensor, own: Tensor) -> Tensor:
    """How many candidates come before the best of the query's own ones.

    Args:
        scores: (q, c) float64 similarities.
        own: (q, c) bool, at least one True in each row.

    Returns:
        (q,) int64; c where the own scores are not finite, so that a broken embedding is a miss.
    """
    num_candidates = scores.shape[1]
    best = scores.masked_fill(~own, -torch.inf).amax(dim=1, keepdim=True)  # (q, 1)
    index = torch.arange(num_candidates)
    at_best = torch.where(own & (scores == best), index, num_candidates)
    first = at_best.amin(dim=1, keepdim=True)
    # "Not lower" and not "higher": a candidate whose score is NaN counts as ahead.
    ahead = ~(scores <= best) | ((scores == best) & (index < first))
    ranks = ahead.sum(dim=1)
    return torch.where(first[:, 0] == num_candidates, num_candidates, ranks)


@METRICS.register_module()
class RetrievalMetric(ImageMetric):
    """Recall at 1, 5 and 10 between images and their captions (see :func:`retrieval_recall`).

    Each record keeps the embeddings of an image and of its captions in float32. An image seen
    twice, as distributed samplers do, counts once, and so does a caption.

    Args:
        ks: Numbers of candidates looked at.
        chunk_size: Queries compared at a time.
        collect_device: See :class:`ImageMetric`.
        prefix: See :class:`ImageMetric`.
        collect_dir: See :class:`ImageMetric`.
    """

    def __init__(
        self,
        ks: Sequence[int] = (1, 5, 10),
        *,
        chunk_size: int = 512,
        collect_device: str = "cpu",
        prefix: str | None = None,
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        self.ks = tuple(ks)
        self.chunk_size = chunk_size

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keeps the embeddings of a batch.

        Args:
            data_batch: The batch, read for ``skipped`` alone.
            data_samples: For each image ``image_id``, ``image_embedding`` (D,) and, if it has
                captions, ``text_embeddings`` (m, D), all unit vectors.
        """
        self.note_skipped(data_batch)
        for sample in data_samples:
            image = sample["image_embedding"]
            # A batch without any caption has no text embeddings at all.
            texts = sample.get("text_embeddings", image.new_zeros(0, len(image)))
            # Clones: a view would keep, and send to the other ranks, the whole batch it is of.
            self.results.append(
                {
                    "image_id": sample["image_id"],
                    "image_embedding": image.float().cpu().clone(),
                    "text_embeddings": texts.float().cpu().clone(),
                }
            )

    def compute(
        self, records: Sequence[Mapping[str, Any]], skipped: Mapping[str, str]
    ) -> dict[str, float]:
        """Computes the recalls.

        Args:
            records: One per image, from :meth:`process`.
            skipped: Reason by file of what was left out.

        Returns:
            See :func:`retrieval_recall`; also the counts ``retrieval_images``,
            ``retrieval_texts`` and ``retrieval_skipped``.
        """
        # Ties go to the lower index, which must not depend on how ranks were put together.
        records = sorted(records, key=lambda record: str(record["image_id"]))
        counts = torch.tensor([len(r["text_embeddings"]) for r in records], dtype=torch.int64)
        results: dict[str, float] = {}
        if records:
            results = retrieval_recall(
                torch.stack([record["image_embedding"] for record in records]),
                torch.cat([record["text_embeddings"] for record in records]),
                torch.repeat_interleave(torch.arange(len(records)), counts),
                self.ks,
                self.chunk_size,
            )
        results["retrieval_images"] = len(records)
        results["retrieval_texts"] = int(counts.sum())
        results["retrieval_skipped"] = len(skipped)
        return results
