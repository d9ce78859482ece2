"""Contrast of captions with the patches they attend to."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective
from fineclip.objectives.contrastive import match_rows
from fineclip.registry import OBJECTIVES

Activation = Literal["softmax", "sigmoid"]


def patch_compatibility(
    patches: Tensor, text: Tensor, activation: Activation = "softmax", factor: float = 1.0
) -> Tensor:
    """Cosine of every caption with the mean of each image's patches, weighted by that caption.

    Memory for the gradient grows with B M D.

    Args:
        patches: (B, N, D) unit patch embeddings.
        text: (M, D) unit caption embeddings.
        activation: What makes weights of similarities: "softmax" over the patches, or "sigmoid" of
            each patch, divided by their sum.
        factor: On the similarities that weights are made of.

    Returns:
        (B, M).
    """
    rows = []
    for image in patches:
        similarity = factor * text @ image.T  # (M, N)
        if activation == "softmax":
            weights = similarity.softmax(dim=1)
        else:
            weights = F.normalize(similarity.sigmoid(), p=1, dim=1)
        rows.append(F.cosine_similarity(weights @ image, text, dim=1))
    return torch.stack(rows)


@OBJECTIVES.register_module()
class PACL(Objective):
    """Contrast of captions with attended patches: ``loss_pacl``.

    PACL (Mukhoti et al., CVPR 2023, "Open Vocabulary Semantic Segmentation with Patch Aligned
    Contrastive Learning"): its compatibility function of patches and a caption in CLIP's InfoNCE.
    With v_ip patch p of image i and t_j caption j, of unit length::

        a_ijp  = softmax_p(f v_ip . t_j)
        phi_ij = cos(sum_p a_ijp v_ip, t_j)
        L      = symmetric InfoNCE of exp(logit_scale) phi

    The paper's weights have no factor f. As cosines are at most 1, the softmax over some 200
    patches is then nearly a mean: where a tenth of them have a cosine 0.25 above the others, they
    get an eighth of the weight, and with f = 10 more than half of it.

    Departures: the paper trains an embedder of the patches on frozen encoders, and the loss's
    temperature is not learned; here what is trained is the pretrainer's choice, and the temperature
    is the model's. SPARC's authors found a learned one much better (its Appendix D.4).

    Public code (NMS05/Patch-Aligned-Contrastive-Learning, a re-implementation) weighs by
    sigmoid(10 v . t), pools patches with their lengths, trains an embedder of captions too, fixes
    the temperature at 0.1, and pools each image but once, with the weights of its own caption.

    Args:
        activation: "softmax", or "sigmoid" for weights sigmoid(f v_ip . t_j) divided by their sum.
        factor: f, on the similarities that weights are made of.
        weight: Factor on the loss.

    Raises:
        ValueError: For an unknown activation, or a factor that is not positive.
    """

    needs = frozenset({"patches", "text", "logit_scale"})

    def __init__(
        self, *, activation: Activation = "softmax", factor: float = 1.0, weight: float = 1.0
    ) -> None:
        super().__init__(weight=weight)
        if activation not in get_args(Activation):
            raise ValueError(
                f"unknown activation {activation!r}; known: {', '.join(get_args(Activation))}"
            )
        if factor <= 0:
            raise ValueError(f"factor must be positive, got {factor}")
        self.activation = activation
        self.factor = factor

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See the class; zero without images."""
        patches = F.normalize(embeddings.patches.float(), dim=2)
        text = F.normalize(embeddings.text.float(), dim=1)
        factor = embeddings.logit_scale.float().exp()
        if not len(patches):
            return {"loss_pacl": patches.sum() + text.sum() + 0 * factor}
        compatibility = patch_compatibility(patches, text, self.activation, self.factor)
        logits = factor * compatibility  # (B, B)
        return {"loss_pacl": (match_rows(logits) + match_rows(logits.T)) / 2}
