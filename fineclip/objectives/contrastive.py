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


def info_nce_share(
    left: Tensor,
    right: Tensor,
    all_left: Tensor,
    all_right: Tensor,
    logit_scale: Tensor,
    first: int,
) -> Tensor:
    """What some rows contribute to :func:`symmetric_info_nce`.

    Nothing of size N x N is made, but two matrices n x N: own rows of either side against all of
    the other (the ``local_loss`` of open_clip).

    Args:
        left: (n, D) some rows of ``all_left``.
        right: (n, D) the same rows of ``all_right``.
        all_left: (N, D) embeddings, any length.
        all_right: (N, D) embeddings, any length.
        logit_scale: () log of the factor on cosine similarities.
        first: Index of the first of the n rows among the N.

    Returns:
        (). The shares of disjoint rows add up to the loss of all.
    """
    factor = logit_scale.float().exp()
    target = torch.arange(first, first + len(left), device=left.device)
    total = logit_scale.new_zeros((), dtype=torch.float32)
    for rows, columns in ((left, all_right), (right, all_left)):
        rows, columns = F.normalize(rows.float(), dim=1), F.normalize(columns.float(), dim=1)
        # A sum over no rows is zero and still connected, so all ranks take part in the backward.
        total = total + F.cross_entropy(factor * rows @ columns.T, target, reduction="sum")
    return total / (2 * max(len(all_left), 1))


@OBJECTIVES.register_module()
class GlobalContrastive(Objective):
    """Image-caption contrast (CLIP; FineCLIP's L_GC): ``loss_global``."""

    needs = frozenset({"image", "text", "logit_scale"})
    compared = frozenset({"image", "text"})

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See :func:`symmetric_info_nce` and :func:`info_nce_share`."""
        image, text, share = embeddings.image, embeddings.text, embeddings.share
        if share is None:
            loss = symmetric_info_nce(image, text, embeddings.logit_scale)
        else:
            own = share.own.image, share.own.text
            loss = info_nce_share(*own, image, text, embeddings.logit_scale, share.first_image)
        return {"loss_global": loss}


@OBJECTIVES.register_module()
class RegionContrastive(Objective):
    """Contrast of regions with their captions (FineCLIP's L_RC): ``loss_region``.

    Over all regions of the global batch, with the global contrast's logit scale. The reference
    release pads the batch with zero rows that act as negatives on a single process; here, as in
    its multi-process runs, only real regions take part.
    """

    needs = frozenset({"region", "region_text", "logit_scale"})
    compared = frozenset({"region", "region_text"})

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See :func:`symmetric_info_nce` and :func:`info_nce_share`."""
        region, text, share = embeddings.region, embeddings.region_text, embeddings.share
        if share is None:
            loss = symmetric_info_nce(region, text, embeddings.logit_scale)
        else:
            own = share.own.region, share.own.region_text
            loss = info_nce_share(*own, region, text, embeddings.logit_scale, share.first_region)
        return {"loss_region": loss}
