"""Contrast of captions with the regions that their words attend to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective
from fineclip.objectives.contrastive import match_rows, symmetric_info_nce
from fineclip.objectives.text_tokens import check_text_mask
from fineclip.registry import OBJECTIVES


def word_region_matching(
    patches: Tensor,
    text_tokens: Tensor,
    text_mask: Tensor,
    *,
    attention_temperature: float,
    word_temperature: float,
) -> Tensor:
    """How well the words of each caption find what they speak of in each image.

    Args:
        patches: (B, N, D) unit patch embeddings.
        text_tokens: (M, T, D) unit token embeddings.
        text_mask: (M, T) bool, true where a token is not padding; at least one per caption.
        attention_temperature: Divisor of similarities before the softmax over patches.
        word_temperature: Divisor of each word's cosine in the soft maximum over words.

    Returns:
        (B, M), the soft maximum over words of their cosine with what they attend to.
    """
    rows = []
    # Image by image: all pairs at once would be B x M x N x T numbers.
    for image in patches:
        similarity = torch.einsum("mtd,nd->mtn", text_tokens, image)
        context = (similarity / attention_temperature).softmax(dim=2) @ image  # (M, T, D)
        cosine = F.cosine_similarity(context, text_tokens, dim=2)
        words = (cosine / word_temperature).masked_fill(~text_mask, -torch.inf)
        rows.append(word_temperature * words.logsumexp(dim=1))
    return torch.stack(rows)


@OBJECTIVES.register_module()
class GLoRIA(Objective):
    """Global and word-region contrast: ``loss_gloria_global`` and ``loss_gloria_local``.

    GLoRIA (Huang et al., ICCV 2021, "GLoRIA: A Multimodal Global-Local Representation Learning
    Framework for Label-efficient Medical Image Recognition"). With v_ip patch p of image i, t_jl
    word l of caption j that is not padding, all of unit length::

        a_ijlp = softmax_p(v_ip . t_jl / tau_a)
        c_ijl  = sum_p a_ijlp v_ip
        Z_ij   = tau_w log sum_l exp(cos(c_ijl, t_jl) / tau_w)
        L_l    = 1/2 [ mean_i CE(Z_i: / tau_l, i) + mean_j CE(Z_:j / tau_l, j) ]
        L      = global_weight L_g + local_weight L_l

    the paper's attention-weighted image representations c, its localized feature matching function
    Z and its local contrastive loss L_l. L_g is CLIP's loss.

    Departures: the products in a (the paper's Eq. 3) are of unit vectors here, where theirs may
    have any length; SPARC's authors had to divide these by sqrt(D) for a stable training (its
    Appendix D.3). The scale of L_g is the model's, learned, where theirs is fixed. They add up the
    two directions of either loss, which are averaged here. They join the pieces of a word before
    they compare words; here every token counts, start and end of text included.

    The public code (marshuang80/gloria, ``gloria_loss.py``) takes a softmax over words before the
    one over patches. Its factors 4, 5 and 10 are tau_a = 1/4, tau_w = 1/5 and, as it leaves out
    the tau_w before the logarithm, tau_l = 1/50: the defaults. Its global factor is 10. The class
    token counts as a word there, the separator does not.

    Args:
        attention_temperature: tau_a.
        word_temperature: tau_w.
        local_temperature: tau_l.
        global_weight: Factor on L_g.
        local_weight: Factor on L_l.
        weight: Factor on both losses.

    Raises:
        ValueError: For a temperature that is not positive.
    """

    needs = frozenset({"image", "text", "patches", "text_tokens", "text_mask", "logit_scale"})

    def __init__(
        self,
        *,
        attention_temperature: float = 1 / 4,
        word_temperature: float = 1 / 5,
        local_temperature: float = 1 / 50,
        global_weight: float = 1.0,
        local_weight: float = 1.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight=weight)
        temperatures = (attention_temperature, word_temperature, local_temperature)
        if min(temperatures) <= 0:
            raise ValueError(f"temperatures must be positive, got {temperatures}")
        self.attention_temperature, self.word_temperature, self.local_temperature = temperatures
        self.global_weight = global_weight
        self.local_weight = local_weight

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See the class; zeros without images.

        Raises:
            ValueError: If the mask does not fit the tokens or a caption has no token.
        """
        check_text_mask(embeddings.text_tokens, embeddings.text_mask)
        patches = F.normalize(embeddings.patches.float(), dim=2)
        tokens = F.normalize(embeddings.text_tokens.float(), dim=2)
        if len(patches):
            logits = (
                word_region_matching(
                    patches,
                    tokens,
                    embeddings.text_mask,
                    attention_temperature=self.attention_temperature,
                    word_temperature=self.word_temperature,
                )
                / self.local_temperature
            )
            local_loss = (match_rows(logits) + match_rows(logits.T)) / 2
        else:
            local_loss = patches.sum() + tokens.sum()
        global_loss = symmetric_info_nce(embeddings.image, embeddings.text, embeddings.logit_scale)
        return {
            "loss_gloria_global": self.global_weight * global_loss,
            "loss_gloria_local": self.local_weight * local_loss,
        }
