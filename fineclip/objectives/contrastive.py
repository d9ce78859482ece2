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


def sequence_info_nce(
    grouped: Tensor,
    tokens: Tensor,
    mask: Tensor,
    logit_scale: Tensor,
    *,
    all_tokens_alike: bool = False,
) -> Tensor:
    """Symmetric InfoNCE between the tokens of a sequence and what was grouped for each of them.

    Negatives are the other tokens of the same sequence.

    Args:
        grouped: (B, T, D) of each token, any length.
        tokens: (B, T, D) token embeddings, any length.
        mask: (B, T) bool, true where a token is not padding; at least one per sequence.
        logit_scale: () log of the factor on cosine similarities.
        all_tokens_alike: Take the mean over all tokens of the batch, in which longer sequences
            count for more, instead of the mean over sequences of the mean over their tokens.

    Returns:
        (), zero for B = 0.
    """
    grouped, tokens = F.normalize(grouped, dim=2), F.normalize(tokens, dim=2)
    logits = logit_scale.float().exp() * grouped @ tokens.mT  # (B, T, T)
    total = logits.new_zeros(())
    for one_way in (logits, logits.mT):
        log_probability = one_way.masked_fill(~mask[:, None], -torch.inf).log_softmax(dim=2)
        matched = log_probability.diagonal(dim1=1, dim2=2).masked_fill(~mask, 0)  # (B, T)
        if all_tokens_alike:
            total = total - matched.sum() / mask.sum().clamp(min=1)
        else:
            total = total - (matched.sum(dim=1) / mask.sum(dim=1)).sum() / max(len(logits), 1)
    return total / 2


@OBJECTIVES.register_module()
class GlobalContrastive(Objective):
    """Image-caption contrast: ``loss_global``.

    CLIP (Radford et al., ICML 2021, "Learning Transferable Visual Models From Natural Language
    Supervision"), the symmetric cross entropy of its pseudo-code; FineCLIP's L_GC (Jing et al.,
    NeurIPS 2024, "FineCLIP: Self-distilled Region-based CLIP for Better Fine-grained
    Understanding"). Negatives are all others of the global batch, as in its release.
    """

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
class ViewContrastive(Objective):
    """Contrast of captions with each global view of their images: ``loss_global``.

    SILC's image-text loss (Naeem et al., ECCV 2024, "SILC: Improving Vision Language Pretraining
    with Self-Distillation"), whose authors found that the two objectives diverge unless each global
    view that the teacher sees is aligned with the text: the mean over these views of CLIP's loss.
    Takes the place, and the name, of :class:`GlobalContrastive`, whose image is the plain one.
    """

    needs = frozenset({"global_view", "text", "logit_scale"})
    compared = frozenset({"global_view", "text"})

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See :func:`symmetric_info_nce` and :func:`info_nce_share`."""
        views, text, share = embeddings.global_view, embeddings.text, embeddings.share
        scale = embeddings.logit_scale
        if share is None:
            losses = [symmetric_info_nce(view, text, scale) for view in views]
        else:
            losses = [
                info_nce_share(own, share.own.text, view, text, scale, share.first_image)
                for own, view in zip(share.own.global_view, views, strict=True)
            ]
        return {"loss_global": torch.stack(losses).mean()}


@OBJECTIVES.register_module()
class RegionContrastive(Objective):
    """Contrast of regions with their captions: ``loss_region``.

    FineCLIP's L_RC (Jing et al., NeurIPS 2024): CLIP's loss over all regions of the global batch,
    with the global contrast's logit scale. The reference release (``training/clipself.py``) pads
    the batch with zero rows that count as pairs and as negatives on a single process; here, as in
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
