"""Projection onto prototypes, for self-distillation."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fineclip.registry import MODELS


@MODELS.register_module()
class PrototypeHead(nn.Module):
    """Cosines of a projected embedding with learned prototypes.

    The head of DINO (Caron et al., ICCV 2021, Sec. 3.1 and appendix C), used by SILC: a three-layer
    MLP with GELU down to a bottleneck, L2 normalisation, then a linear layer whose weight rows are
    normalised (weight normalisation with its gain fixed to one) and which has no bias. Logits are
    therefore cosines, in [-1, 1]; the objective divides them by its temperatures.

    Args:
        in_dim: D, size of the embeddings.
        num_prototypes: P.
        hidden_dim: Width of the MLP.
        bottleneck_dim: Size in which embeddings meet prototypes.

    Attributes:
        prototypes: (P, bottleneck_dim) parameter, any length.
        frozen: Whether the prototypes stand still: then they receive no gradient, and optimizers
            leave them alone.
    """

    def __init__(
        self,
        in_dim: int,
        num_prototypes: int,
        *,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
    ) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(in_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, bottleneck_dim),
        )
        self.frozen = False
        self.prototypes = nn.Linear(bottleneck_dim, num_prototypes, bias=False).weight
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Prototype logits.

        Args:
            embeddings: (..., D), any length.

        Returns:
            (..., P) cosines.
        """
        bottleneck = F.normalize(self.mlp(embeddings), dim=-1)
        prototypes = self.prototypes.detach() if self.frozen else self.prototypes
        return F.linear(bottleneck, F.normalize(prototypes, dim=-1))
