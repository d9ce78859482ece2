"""Classification of regions against a large vocabulary."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.class_sampling import sample_classes
from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective
from fineclip.registry import OBJECTIVES


def regionclip_loss(
    region: Tensor, label: Tensor, vocabulary: Tensor, logit_scale: Tensor, kept: Tensor
) -> Tensor:
    """Binary cross entropy over the kept categories, summed over them, averaged over regions.

    With z_ik = s cos(r_i, e_k), s = exp(logit_scale) without gradient, and C the kept categories::

        L = 1/R sum_i [ sum_{k in C, k = y_i} -log sigmoid(z_ik)
                      + sum_{k in C, k != y_i} -log sigmoid(-z_ik) ]

    Args:
        region: (R, D) embeddings, any length.
        label: (R,) int64 index into the vocabulary; rows with -1 are left out, of R too.
        vocabulary: (K, D) category embeddings, any length.
        logit_scale: () log of the factor on cosine similarities; receives no gradient.
        kept: (C,) int64 distinct indices of the categories that take part.

    Returns:
        (), zero without labelled regions.
    """
    labelled = label >= 0
    region = F.normalize(region[labelled].float(), dim=1)
    category = F.normalize(vocabulary[kept].float(), dim=1)
    logits = logit_scale.detach().float().exp() * region @ category.T  # (R, C)
    target = (label[labelled, None] == kept).float()
    total = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    return total / max(len(logits), 1)


@torch.no_grad()
def pseudo_labels(embeddings: Tensor, vocabulary: Tensor) -> tuple[Tensor, Tensor]:
    """Labels boxes that carry none with the nearest category.

    As RegionCLIP (Zhong et al., CVPR 2022) makes its region-text pairs: the concept of highest
    cosine similarity to the region's visual embedding by the pre-trained CLIP.

    Args:
        embeddings: (n, D) embeddings of regions or of their crops, any length.
        vocabulary: (K, D) category embeddings, any length.

    Returns:
        (n,) int64 labels and (n,) float32 cosine similarities. Setting labels of low similarity
        to -1 excludes them from :class:`RegionCLIPLoss`.

    Raises:
        ValueError: If the vocabulary is empty.
    """
    if not len(vocabulary):
        raise ValueError("pseudo_labels needs a vocabulary of at least one category, got none")
    similarity = F.normalize(embeddings.float(), dim=1) @ F.normalize(vocabulary.float(), dim=1).T
    scores, labels = similarity.max(dim=1)
    return labels, scores


@OBJECTIVES.register_module()
class RegionCLIPLoss(Objective):
    """Regions against a vocabulary with sampled negatives: ``loss_regionclip``.

    RegionCLIP (Zhong et al., CVPR 2022, "RegionCLIP: Region-based Language-Image Pretraining") in
    the form of CLIPSelf's and FineCLIP's baseline: instead of a softmax over concepts, binary
    cross entropy over the categories of the batch and random others (federated loss, Zhou et al.,
    2021), with the temperature detached. See :func:`regionclip_loss`; the losses of RegionCLIP's
    own release are :class:`RegionConceptMatching`.

    In CLIPSelf's code (``region_clip.py``) each process draws for its own regions and averages over
    them, and the embeddings of the categories are fixed; here all processes share a draw and a
    mean, and gradients reach ``vocabulary`` where it asks for them.

    The draw depends on the seed, the number of training steps taken and the labels of the global
    batch alone, so every rank draws the same categories and a resumed run continues the sequence.
    In eval mode the step stands still.

    Args:
        num_sampled: Number of categories kept; all that occur in the batch always are.
        seed: Seed of the draw.
        weight: Factor on the loss.

    Attributes:
        step: () int64 buffer, the number of training steps taken.

    Raises:
        ValueError: If ``num_sampled`` is negative.
    """

    needs = frozenset({"region", "region_label", "vocabulary", "logit_scale"})

    step: Tensor

    def __init__(self, *, num_sampled: int = 100, seed: int = 0, weight: float = 1.0) -> None:
        super().__init__(weight=weight)
        if num_sampled < 0:
            raise ValueError(f"num_sampled must not be negative, got {num_sampled}")
        self.num_sampled = num_sampled
        self.seed = seed
        self.register_buffer("step", torch.tensor(0))

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See :func:`regionclip_loss`; zero without labelled regions.

        Raises:
            ValueError: For a label outside of the vocabulary, or labels that are not one per
                region.
        """
        label, num_categories = embeddings.region_label, len(embeddings.vocabulary)
        _check_labels(label, len(embeddings.region), num_categories)
        # The CPU generator uses 32 bits of its seed; the factor keeps neighbouring seeds apart.
        seed = (self.seed * 2_654_435_761 + int(self.step)) % 2**32
        generator = torch.Generator().manual_seed(seed)
        kept = sample_classes(label[label >= 0], num_categories, self.num_sampled, generator)
        if self.training:
            self.step += 1
        loss = regionclip_loss(
            embeddings.region, label, embeddings.vocabulary, embeddings.logit_scale, kept
        )
        return {"loss_regionclip": loss}


def _check_labels(label: Tensor, num_regions: int, num_categories: int) -> None:
    if label.shape != (num_regions,):
        raise ValueError(
            f"region_label has shape {tuple(label.shape)}, expected one label for each of the "
            f"{num_regions} regions"
        )
    if not num_regions:
        return
    low, high = label.aminmax()
    if low < -1 or high >= num_categories:
        raise ValueError(
            f"region_label ranges from {low} to {high}; a vocabulary of {num_categories} "
            f"categories allows 0 to {num_categories - 1}, and -1 for no label"
        )
