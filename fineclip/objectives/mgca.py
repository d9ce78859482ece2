"""Contrast of images and captions at three levels: instance, token and prototype."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective
from fineclip.objectives.contrastive import sequence_info_nce, symmetric_info_nce
from fineclip.objectives.text_tokens import check_text_mask
from fineclip.registry import OBJECTIVES


def attend(queries: Tensor, keys: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Mean of the keys of the same image, weighted by their similarity with each query.

    Args:
        queries: (B, Q, D) unit vectors.
        keys: (B, K, D) unit vectors.
        mask: (B, K) bool, true where a key takes part; at least one per image.
        temperature: Divisor of similarities before the softmax over keys.

    Returns:
        (B, Q, D).
    """
    similarity = (queries @ keys.mT / temperature).masked_fill(~mask[:, None], -torch.inf)
    return similarity.softmax(dim=2) @ keys


@torch.no_grad()
def sinkhorn_assignment(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Soft assignment of rows to prototypes that uses all prototypes equally.

    Sinkhorn and Knopp's algorithm as in SwAV (Caron et al., NeurIPS 2020, Sec. 3.1): columns and
    rows of exp(scores / epsilon) are divided by their sums in turn.

    Args:
        scores: (B, K) cosines with the prototypes.
        epsilon: Smoothness; smaller is harder.
        iterations: Number of times both are divided.

    Returns:
        (B, K), rows add up to 1.
    """
    assignment = (scores / epsilon).exp()
    for _ in range(iterations):
        assignment = F.normalize(assignment, p=1, dim=0)
        assignment = F.normalize(assignment, p=1, dim=1)
    return assignment


@OBJECTIVES.register_module()
class MGCA(Objective):
    """Three levels: ``loss_mgca_instance``, ``loss_mgca_token`` and ``loss_mgca_prototype``.

    MGCA (Wang et al., NeurIPS 2022, "Multi-Granularity Cross-modal Alignment for Generalized
    Medical Visual Representation Learning"). With v_p the N patches and t_l the L tokens that are
    not padding of a pair, v and t its global embeddings, p_k the prototypes, all of unit length::

        L_ITA = symmetric InfoNCE of v and t at exp(logit_scale)
        o_p   = sum_l softmax_l(v_p . t_l / tau) t_l
        L_V   = 1/(2N) sum_p [ CE(cos(v_p, o_:) / tau, p) + CE(cos(o_p, v_:) / tau, p) ]
        L_CTA = mean over pairs of L_V + L_T, where L_T has patches and tokens exchanged
        q_v   = Sinkhorn assignment of v to the prototypes, of all pairs together
        s_vk  = softmax_k(v . p_k / tau_p)
        L_CPA = 1/2 mean over pairs of [ H(q_v, s_t) + H(q_t, s_v) ]
        L     = instance_weight L_ITA + token_weight L_CTA + prototype_weight L_CPA

    the paper's instance-wise, cross-attention-based token-wise and cross-modal prototype alignment
    (ITA, CTA, CPA), where H(q, s) = -sum_k q_k log s_k and no gradient reaches q. The prototypes
    are parameters of the objective, trained with the model. The weights, all 1, are the paper's and
    those that the command of the public code (HKU-MedAI/MGCA, ``mgca_module.py``) sets; all other
    defaults are that code's.

    Departures: in the paper the attention of o has learned projections, off in the code and absent
    here. In both, patches and tokens are weighted by the attention that the last block's class
    token pays them (the paper's Eq. 5); encoders of any kind need not have one, so that here all
    count alike, as in SPARC's comparison (its Appendix D.3). The scale of L_ITA is the model's,
    learned, where theirs is fixed.

    The code also adds up the two directions of L_ITA that are averaged here (so does
    ``instance_weight=2``), contrasts the instances of each process alone, lets padding into the
    negatives of tokens, joins the pieces of a word, takes o_p of a ViT with its length instead of
    the cosine, keeps the prototypes still in the first epoch, and gives the parameters themselves
    unit length before each step.

    Args:
        embed_dim: D; the pretrainer fills it in.
        num_prototypes: Number of prototypes.
        token_temperature: tau.
        prototype_temperature: tau_p.
        epsilon: Smoothness of the assignment, see :func:`sinkhorn_assignment`.
        iterations: Its iterations.
        instance_weight: Factor on L_ITA.
        token_weight: Factor on L_CTA.
        prototype_weight: Factor on L_CPA.
        weight: Factor on all losses.

    Attributes:
        prototypes: (num_prototypes, D) parameter, any length.

    Raises:
        ValueError: For a temperature, smoothness or number that is not positive.
    """

    needs = frozenset({"image", "text", "patches", "text_tokens", "text_mask", "logit_scale"})

    def __init__(
        self,
        *,
        embed_dim: int,
        num_prototypes: int = 500,
        token_temperature: float = 0.1,
        prototype_temperature: float = 0.2,
        epsilon: float = 0.05,
        iterations: int = 3,
        instance_weight: float = 1.0,
        token_weight: float = 1.0,
        prototype_weight: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight=weight)
        positive = (token_temperature, prototype_temperature, epsilon, num_prototypes, iterations)
        if min(positive) <= 0:
            raise ValueError(
                "token_temperature, prototype_temperature, epsilon, num_prototypes and iterations "
                f"must be positive, got {positive}"
            )
        self.token_temperature = token_temperature
        self.prototype_temperature = prototype_temperature
        self.epsilon = epsilon
        self.iterations = iterations
        self.instance_weight = instance_weight
        self.token_weight = token_weight
        self.prototype_weight = prototype_weight
        self.prototypes = nn.Parameter(torch.randn(num_prototypes, embed_dim))

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See the class; zeros without images.

        Raises:
            ValueError: If the mask does not fit the tokens or a caption has no token.
        """
        check_text_mask(embeddings.text_tokens, embeddings.text_mask)
        instance = symmetric_info_nce(embeddings.image, embeddings.text, embeddings.logit_scale)
        return {
            "loss_mgca_instance": self.instance_weight * instance,
            "loss_mgca_token": self.token_weight * self._token_loss(embeddings),
            "loss_mgca_prototype": self.prototype_weight * self._prototype_loss(embeddings),
        }

    def _token_loss(self, embeddings: Embeddings) -> Tensor:
        patches = F.normalize(embeddings.patches.float(), dim=2)
        tokens, of_text = F.normalize(embeddings.text_tokens.float(), dim=2), embeddings.text_mask
        of_image = torch.ones(patches.shape[:2], dtype=torch.bool, device=patches.device)
        scale = patches.new_tensor(-math.log(self.token_temperature))
        total = patches.new_zeros(())
        for queries, keys, own, others in (
            (patches, tokens, of_image, of_text),
            (tokens, patches, of_text, of_image),
        ):
            attended = attend(queries, keys, others, self.token_temperature)
            total = total + sequence_info_nce(attended, queries, own, scale)
        return total

    def _prototype_loss(self, embeddings: Embeddings) -> Tensor:
        prototypes = F.normalize(self.prototypes.float(), dim=1)
        scores = [
            F.normalize(side.float(), dim=1) @ prototypes.T
            for side in (embeddings.image, embeddings.text)
        ]  # each (B, K)
        targets = [sinkhorn_assignment(s, self.epsilon, self.iterations) for s in scores]
        total = scores[0].new_zeros(())
        for score, target in zip(scores, reversed(targets), strict=True):
            prediction = (score / self.prototype_temperature).log_softmax(dim=1)
            total = total - (target * prediction).sum()
        return total / (2 * max(len(scores[0]), 1))
