"""Symmetric InfoNCE, globally and over regions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective
from fineclip.registry import OBJECTIVES


def match_rows(logits: Tensor) -> Tensor:
    """Mean cross entropy of the rows of (N, N) logits with their own index; zero for N = 0."""
    if not len(logits):
        return logits.sum()  # cross_entropy's mean over nothing is NaN
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def symmetric_info_nce(left: Tensor, right: Tensor, logit_scale: Tensor) -> Tensor:
    """Mean of the two cross entropies that match row i of one side with row i of the other.

    Args:
        left: (N, D) embeddings, any length.
        right: (N, D) embeddings, any length.
        logit_scale: () log of the factor on cosine similarities.

    Returns:
        (), zero for N = 0.
    """
    left = F.normalize(left.float(), dim=1)
    right = F.normalize(right.float(), dim=1)
    logits = logit_scale.float().exp() * left @ right.T  # (N, N)
    return (match_rows(logits) + match_rows(logits.T)) / 2


@OBJECTIVES.register_module()
class GlobalContrastive(Objective):
    """Image-caption contrast (CLIP; FineCLIP's L_GC): ``loss_global``."""

    needs = frozenset({"image", "text", "logit_scale"})

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See :func:`symmetric_info_nce`."""
        loss = symmetric_info_nce(embeddings.image, embeddings.text, embeddings.logit_scale)
        return {"loss_global": loss}


@OBJECTIVES.register_module()
class RegionContrastive(Objective):
    """Contrast of regions with their captions (FineCLIP's L_RC): ``loss_region``.

    Over all regions of the global batch, with the global contrast's logit scale. The reference
    release pads the batch with zero rows that act as negatives on a single process; here, as in
    its multi-process runs, only real regions take part.
    """

    needs = frozenset({"region", "region_text", "logit_scale"})

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See :func:`symmetric_info_nce`."""
        loss = symmetric_info_nce(embeddings.region, embeddings.region_text, embeddings.logit_scale)
        return {"loss_region": loss}
