"""Pairwise sigmoid contrast, globally and over regions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective
from fineclip.registry import OBJECTIVES


def pairwise_sigmoid_loss(
    left: Tensor, right: Tensor, logit_scale: Tensor, logit_bias: Tensor, first: int = 0
) -> Tensor:
    """Each of the N x N pairs is classified alone as matching or not.

    SigLIP (Zhai et al., ICCV 2023, "Sigmoid Loss for Language Image Pre-Training"), Sec. 3.2. Its
    equation has the bias with the other sign; this is its Algorithm 1, which released weights
    follow, y_ij = 1 for i = j and -1 otherwise::

        L = -1/N sum_i sum_j log sigmoid(y_ij (exp(logit_scale) cos(x_i, t_j) + logit_bias))

    Training starts there from a factor of 10 (``logit_scale`` = log 10) and a bias of -10, which is
    the right order for N in the thousands: nearly all pairs do not match.

    Args:
        left: (n, D) embeddings, any length: all N rows, or some, whose share of the loss it is
            then. The shares of disjoint rows add up to the loss.
        right: (N, D) embeddings, any length.
        logit_scale: () log of the factor on cosine similarities.
        logit_bias: () added to the scaled similarities.
        first: Which row of ``right`` matches the first of ``left``; the others follow.

    Returns:
        (), zero for n = 0.
    """
    left = F.normalize(left.float(), dim=1)
    right = F.normalize(right.float(), dim=1)
    logits = logit_scale.float().exp() * left @ right.T + logit_bias.float()  # (n, N)
    sign = torch.full_like(logits, -1)
    sign.diagonal(first).fill_(1)
    return -F.logsigmoid(sign * logits).sum() / max(len(right), 1)


@OBJECTIVES.register_module()
class SigmoidGlobalContrastive(Objective):
    """Image-caption contrast with SigLIP's sigmoid: ``loss_global``.

    Takes the place, and the name, of :class:`GlobalContrastive`.
    """

    needs = frozenset({"image", "text", "logit_scale", "logit_bias"})
    compared = frozenset({"text"})

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See :func:`pairwise_sigmoid_loss`."""
        loss = pairwise_sigmoid_loss(
            embeddings.own.image,
            embeddings.text,
            embeddings.logit_scale,
            embeddings.logit_bias,
            first=embeddings.share.first_image if embeddings.share else 0,
        )
        return {"loss_global": loss}


@OBJECTIVES.register_module()
class SigmoidViewContrastive(Objective):
    """Contrast of captions with each global view by SigLIP's sigmoid: ``loss_global``.

    As :class:`ViewContrastive`, with SILC's other image-text loss (Naeem et al., ECCV 2024:
    "SILC-S").
    """

    needs = frozenset({"global_view", "text", "logit_scale", "logit_bias"})
    compared = frozenset({"text"})

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See :func:`pairwise_sigmoid_loss`."""
        losses = [
            pairwise_sigmoid_loss(
                view,
                embeddings.text,
                embeddings.logit_scale,
                embeddings.logit_bias,
                first=embeddings.share.first_image if embeddings.share else 0,
            )
            for view in embeddings.own.global_view
        ]
        return {"loss_global": torch.stack(losses).mean()}


@OBJECTIVES.register_module()
class SigmoidRegionContrastive(Objective):
    """Contrast of regions with their captions by SigLIP's sigmoid: ``loss_region``.

    FineCLIP's L_RC with the softmax replaced: over all regions of the global batch, with the
    global contrast's logit scale and bias. Takes the place, and the name, of
    :class:`RegionContrastive`.
    """

    needs = frozenset({"region", "region_text", "logit_scale", "logit_bias"})
    compared = frozenset({"region_text"})

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See :func:`pairwise_sigmoid_loss`."""
        loss = pairwise_sigmoid_loss(
            embeddings.own.region,
            embeddings.region_text,
            embeddings.logit_scale,
            embeddings.logit_bias,
            first=embeddings.share.first_region if embeddings.share else 0,
        )
        return {"loss_region": loss}
