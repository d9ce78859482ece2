"""Real-time self-distillation from crops to regions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective
from fineclip.registry import OBJECTIVES


@OBJECTIVES.register_module()
class SelfDistillation(Objective):
    """One minus the mean cosine of region and crop embedding: ``loss_distill``.

    FineCLIP's L_SD (Jing et al., NeurIPS 2024, "FineCLIP: Self-distilled Region-based CLIP for
    Better Fine-grained Understanding"), with r_i the region pooled from the dense map and c_i the
    global embedding of its crop, both by the model being trained::

        L = 1/R sum_i (1 - cos(r_i, c_i))

    over the R regions of the global batch; the reference release (``training/clipself.py``)
    averages over those of each process. As there, gradients flow into both sides; alone, the loss
    therefore has a trivial solution and collapses.

    Args:
        detach_teacher: Stop gradients at the crop embedding.
        weight: Factor on the loss.
    """

    needs = frozenset({"region", "crop"})
    compared = frozenset()  # row by row

    def __init__(self, *, detach_teacher: bool = False, weight: float = 1.0) -> None:
        super().__init__(weight=weight)
        self.detach_teacher = detach_teacher

    @property
    def detached(self) -> frozenset[str]:
        """The crop where it is a fixed target."""
        return frozenset({"crop"}) if self.detach_teacher else frozenset()

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """``1 - mean_i cos(region_i, crop_i)``, zero without regions."""
        own = embeddings.own
        crop = own.crop.detach() if self.detach_teacher else own.crop
        cosine = F.cosine_similarity(own.region.float(), crop.float(), dim=1)  # (R,)
        return {"loss_distill": (1 - cosine).sum() / max(embeddings.num_regions, 1)}
