"""Distillation from the crops of a frozen teacher to regions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective
from fineclip.registry import OBJECTIVES


@OBJECTIVES.register_module()
class CLIPSelfDistillation(Objective):
    """One minus the mean cosine of a region and a frozen teacher's crop: ``loss_clipself``.

    CLIPSelf (Wu et al., ICLR 2024, "CLIPSelf: Vision Transformer Distills Itself for
    Open-Vocabulary Dense Prediction"), with r_i the region pooled from the student's dense map and
    c_i the teacher's global embedding of the same box cut out of the image::

        L = 1/R sum_i (1 - cos(r_i, c_i))

    over the R regions of the global batch; its release (``training/clipself.py``) averages over
    those of each process.

    No gradient ever reaches ``teacher_crop``. Where :class:`SelfDistillation` compares with the
    model being trained, this compares with the model it started from, so it cannot collapse.
    """

    needs = frozenset({"region", "teacher_crop"})
    compared = frozenset()  # row by row

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """``1 - mean_i cos(region_i, teacher_crop_i)``, zero without regions."""
        own = embeddings.own
        teacher = own.teacher_crop.detach().float()
        cosine = F.cosine_similarity(own.region.float(), teacher, dim=1)  # (R,)
        return {"loss_clipself": (1 - cosine).sum() / max(embeddings.num_regions, 1)}
