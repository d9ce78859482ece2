"""Regions learn the teacher's view of them as concepts: RegionCLIP's own losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective
from fineclip.registry import OBJECTIVES


@OBJECTIVES.register_module()
class RegionConceptMatching(Objective):
    """Distillation and contrast over concepts: ``loss_concept_distill``, ``loss_concept_contrast``.

    RegionCLIP (Zhong et al., CVPR 2022, "RegionCLIP: Region-based Language-Image Pretraining") as
    its authors train it. With r_i the region, u_i the frozen teacher's embedding of it, e_k the
    K concepts of the vocabulary, all of unit length, tau the temperature, m(i) the concept that
    the teacher finds most likely for region i, and R the regions it gives more than ``min_score``::

        q_ik   = softmax_k(u_i . e_k / tau),  p_ik = softmax_k(r_i . e_k / tau)
        L_dist = 1/R sum_i sum_k q_ik (log q_ik - log p_ik)
        s_ij   = r_i . e_m(j) / tau
        L_con  = -1/R sum_i log [ sum_{j: m(j) = m(i)} exp s_ij / sum_j exp s_ij ]

    its L_dist and L_cntrst, which its pretraining adds up with a third, L_cntrst-img, at the level
    of images and captions: :class:`GlobalContrastive`. What CLIPSelf and FineCLIP measured under
    the name is another: :class:`RegionCLIPLoss`.

    Sums over j are over regions, as in the public code (microsoft/RegionCLIP,
    ``region_concept_matching``): a concept that several regions have counts several times, where
    the paper's L_cntrst has one positive and, as negatives, concepts of other regions. L_con goes
    one way, from regions to concepts, in both.

    Departures from that code: there j runs over the regions of one process, here over the global
    batch; a batch in which no region passes its threshold is used whole there, here its losses are
    zero; the teacher pools its regions from its own feature map there, here it sees their crops;
    and L_cntrst-img has a fixed temperature and a frozen text encoder there.

    Args:
        temperature: tau; fixed, as there.
        min_score: Regions whose most likely concept has no more probability are left out.
        distill_weight: Factor on L_dist.
        contrast_weight: Factor on L_con.
        weight: Factor on both losses.

    Raises:
        ValueError: For a temperature that is not positive, or a score outside of [0, 1).
    """

    needs = frozenset({"region", "teacher_crop", "vocabulary"})

    def __init__(
        self,
        *,
        temperature: float = 0.01,
        min_score: float = 0.0,
        distill_weight: float = 1.0,
        contrast_weight: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight=weight)
        if temperature <= 0 or not 0 <= min_score < 1:
            raise ValueError(
                "temperature must be positive and min_score in [0, 1), got "
                f"{temperature} and {min_score}"
            )
        self.temperature = temperature
        self.min_score = min_score
        self.distill_weight = distill_weight
        self.contrast_weight = contrast_weight

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See the class; zeros without regions.

        Raises:
            ValueError: If the vocabulary is empty.
        """
        if not len(embeddings.vocabulary):
            raise ValueError("RegionConceptMatching needs a vocabulary of at least one concept")
        concepts = F.normalize(embeddings.vocabulary.detach().float(), dim=1)
        with torch.no_grad():
            seen = F.normalize(embeddings.teacher_crop.float(), dim=1) @ concepts.T
            expected = (seen / self.temperature).log_softmax(dim=1)  # (R, K)
            score, concept = expected.max(dim=1)
            kept = score.exp() > self.min_score
            expected, concept = expected[kept], concept[kept]
        region = F.normalize(embeddings.region[kept].float(), dim=1)
        found = (region @ concepts.T / self.temperature).log_softmax(dim=1)
        distill = F.kl_div(found, expected, reduction="sum", log_target=True)

        logits = region @ concepts[concept].T / self.temperature
        other = concept[:, None] != concept
        positive = logits.masked_fill(other, -torch.inf).logsumexp(dim=1)
        contrast = (logits.logsumexp(dim=1) - positive).sum()
        count = max(len(region), 1)
        return {
            "loss_concept_distill": self.distill_weight * distill / count,
            "loss_concept_contrast": self.contrast_weight * contrast / count,
        }
