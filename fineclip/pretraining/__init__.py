"""Pretraining of a CLIP: batch -> embeddings -> objectives, and the teachers of some of them."""

from fineclip.pretraining.ema_teacher import EMATeacher
from fineclip.pretraining.frozen_teacher import FrozenTeacher
from fineclip.pretraining.pretrainer import FineCLIPPretrainer
from fineclip.pretraining.prototype_head import PrototypeHead

__all__ = [
    "EMATeacher",
    "FineCLIPPretrainer",
    "FrozenTeacher",
    "PrototypeHead",
]
