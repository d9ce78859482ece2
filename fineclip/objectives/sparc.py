"""Sparse alignment of text tokens with groups of patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective
from fineclip.objectives.contrastive import symmetric_info_nce
from fineclip.objectives.text_tokens import check_text_mask
from fineclip.registry import OBJECTIVES


def sparse_alignment(similarity: Tensor) -> Tensor:
    """Weights of patches for each token: few, and summing to one.

    Similarities are stretched to [0, 1] over the patches, those below 1 / N are set to zero, the
    rest divided by their sum. A token to which all patches are equally similar, as where there is
    but one patch, weighs them equally.

    Args:
        similarity: (..., N) of a token to the N patches of its image.

    Returns:
        (..., N).
    """
    low = similarity.amin(dim=-1, keepdim=True)
    spread = similarity.amax(dim=-1, keepdim=True) - low
    flat = spread == 0
    stretched = (similarity - low) / spread.masked_fill(flat, 1)
    stretched = stretched.masked_fill(flat, 1)
    sparse = stretched.masked_fill(stretched < 1 / similarity.shape[-1], 0)
    return sparse / sparse.sum(dim=-1, keepdim=True)


def sequence_info_nce(grouped: Tensor, tokens: Tensor, mask: Tensor, logit_scale: Tensor) -> Tensor:
    """Symmetric InfoNCE between a caption's tokens and their patch groups, within each caption.

    Args:
        grouped: (B, T, D) group of patches of each token, any length.
        tokens: (B, T, D) token embeddings, any length.
        mask: (B, T) bool, true where a token is not padding; at least one per caption.
        logit_scale: () log of the factor on cosine similarities.

    Returns:
        () mean over captions of the mean over their tokens, zero for B = 0.
    """
    grouped, tokens = F.normalize(grouped, dim=2), F.normalize(tokens, dim=2)
    logits = logit_scale.float().exp() * grouped @ tokens.mT  # (B, T, T)
    total = logits.new_zeros(())
    for one_way in (logits, logits.mT):
        log_probability = one_way.masked_fill(~mask[:, None], -torch.inf).log_softmax(dim=2)
        matched = log_probability.diagonal(dim1=1, dim2=2).masked_fill(~mask, 0)  # (B, T)
        total = total - (matched.sum(dim=1) / mask.sum(dim=1)).sum()
    return total / (2 * max(len(logits), 1))


@OBJECTIVES.register_module()
class SPARC(Objective):
    """Global and token-level contrast: ``loss_sparc_global`` and ``loss_sparc_local``.

    SPARC (Bica et al., ICML 2024, "Improving fine-grained understanding in image-text
    pre-training"), its sparse fine-grained contrastive alignment. For a pair of image and caption,
    with v_p its N patches, t_l its L tokens that are not padding, and s_lp = t_l . v_p::

        u_lp = (s_lp - min_q s_lq) / (max_q s_lq - min_q s_lq)
        w_lp = u_lp if u_lp >= 1/N else 0
        c_l  = sum_p w_lp v_p / sum_q w_lq
        L_f  = 1/(2L) sum_l [ CE(f cos(c_l, t_:), l) + CE(f cos(t_l, c_:), l) ], mean over pairs
        L    = global_weight L_g + local_weight L_f

    with f = exp(logit_scale). Negatives of L_f are the other tokens of the same caption, so its
    cost grows with the batch, not with its square; gradients flow through the weights.

    Departures: L_g contrasts ``image`` and ``text``, the model's own global embeddings, where the
    paper mean-pools patches and tokens. Patches and tokens are compared as unit vectors, where the
    paper takes the raw product for the weights.

    Args:
        global_weight: The paper's lambda_g.
        local_weight: The paper's lambda_f.
        weight: Factor on both losses.
    """

    needs = frozenset({"image", "text", "patches", "text_tokens", "text_mask", "logit_scale"})

    def __init__(
        self, *, global_weight: float = 0.5, local_weight: float = 1.0, weight: float = 1.0
    ) -> None:
        super().__init__(weight=weight)
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
        weights = sparse_alignment(tokens @ patches.mT)  # (B, T, N)
        local_loss = sequence_info_nce(
            weights @ patches, tokens, embeddings.text_mask, embeddings.logit_scale
        )
        global_loss = symmetric_info_nce(embeddings.image, embeddings.text, embeddings.logit_scale)
        return {
            "loss_sparc_global": self.global_weight * global_loss,
            "loss_sparc_local": self.local_weight * local_loss,
        }
