"""Sparse alignment of text tokens with groups of patches."""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective
from fineclip.objectives.contrastive import sequence_info_nce, symmetric_info_nce
from fineclip.objectives.text_tokens import check_text_mask
from fineclip.registry import OBJECTIVES

Mean = Literal["captions", "tokens"]


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


@OBJECTIVES.register_module()
class SPARC(Objective):
    """Global and token-level contrast: ``loss_sparc_global`` and ``loss_sparc_local``.

    SPARC (Bica et al., ICML 2024, "Improving fine-grained understanding in image-text
    pre-training"), its sparse fine-grained contrastive alignment. For a pair of image and caption,
    with v_p its N patches and t_l its L tokens that are not padding, as the encoders give them, and
    s_lp = t_l . v_p::

        u_lp = (s_lp - min_q s_lq) / (max_q s_lq - min_q s_lq)                           (Eq. 2)
        w_lp = u_lp if u_lp >= 1/N else 0                                                (Eq. 3)
        c_l  = sum_p w_lp v_p / sum_q w_lq                                          (Eq. 4 and 5)
        L_f  = 1/(2L) sum_l [ CE(f cos(c_l, t_:), l) + CE(f cos(t_l, c_:), l) ], mean over pairs
                                                                                         (Eq. 6)
        L    = global_weight L_g + local_weight L_f                                      (Eq. 7)

    with f = exp(logit_scale), learned, and L_g CLIP's loss (Eq. 1). Negatives of L_f are the other
    tokens of the same caption, so its cost grows with the batch, not with its square; gradients
    flow through the weights.

    Numbers are those of arXiv 2401.09865v1. Its pseudo-code (Appendix C) takes another mean than
    its Eq. 6, that over all tokens of the batch: ``mean="tokens"``. Some public re-implementations
    take padding for tokens.

    Departure: L_g contrasts ``image`` and ``text``, the model's own global embeddings, where the
    paper mean-pools patches and tokens.

    Args:
        global_weight: The paper's lambda_g, 0.5 there.
        local_weight: The paper's lambda_f, chosen among 0.5, 1, 5 and 10 there (Appendix D.4).
        unit_patches: Give patches and tokens unit length before they are compared and grouped, so
            that long patches count for no more than short ones; not in the paper.
        mean: What L_f is a mean over: "captions", or "tokens".
        weight: Factor on both losses.

    Raises:
        ValueError: For an unknown mean.
    """

    needs = frozenset({"image", "text", "patches", "text_tokens", "text_mask", "logit_scale"})

    def __init__(
        self,
        *,
        global_weight: float = 0.5,
        local_weight: float = 1.0,
        unit_patches: bool = False,
        mean: Mean = "captions",
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight=weight)
        if mean not in get_args(Mean):
            raise ValueError(f"unknown mean {mean!r}; known: {', '.join(get_args(Mean))}")
        self.unit_patches = unit_patches
        self.mean = mean
        self.global_weight = global_weight
        self.local_weight = local_weight

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See the class; zeros without images.

        Raises:
            ValueError: If the mask does not fit the tokens or a caption has no token.
        """
        check_text_mask(embeddings.text_tokens, embeddings.text_mask)
        patches, tokens = embeddings.patches.float(), embeddings.text_tokens.float()
        if self.unit_patches:
            patches, tokens = F.normalize(patches, dim=2), F.normalize(tokens, dim=2)
        weights = sparse_alignment(tokens @ patches.mT)  # (B, T, N)
        local_loss = sequence_info_nce(
            weights @ patches,
            tokens,
            embeddings.text_mask,
            embeddings.logit_scale,
            all_tokens_alike=self.mean == "tokens",
        )
        global_loss = symmetric_info_nce(embeddings.image, embeddings.text, embeddings.logit_scale)
        return {
            "loss_sparc_global": self.global_weight * global_loss,
            "loss_sparc_local": self.local_weight * local_loss,
        }
