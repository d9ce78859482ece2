"""Local-to-global self-distillation over prototypes."""

from __future__ import annotations

import torch
from torch import Tensor

from fineclip.embeddings import Embeddings
from fineclip.objectives.base import Objective
from fineclip.registry import OBJECTIVES


def warmed_up_temperature(step: int, *, start: float, end: float, warmup_steps: int) -> float:
    """Linear from ``start`` at step 0 to ``end`` at step ``warmup_steps``, constant from there."""
    if step >= warmup_steps:
        return end
    return start + (end - start) * step / warmup_steps


def local_to_global_loss(
    student: Tensor,
    teacher: Tensor,
    center: Tensor,
    *,
    student_temperature: float,
    teacher_temperature: float,
    shared_views: int = 0,
) -> Tensor:
    """Mean cross entropy of every student view with every teacher view of the same image.

    Args:
        student: (V_s, B, P) prototype logits.
        teacher: (V_t, B, P) prototype logits; receive no gradient.
        center: (P,) subtracted from the teacher's logits.
        student_temperature: Divisor of the student's logits.
        teacher_temperature: Divisor of the teacher's centred logits.
        shared_views: The first so many views are the same picture on both sides, in the same
            order; a view is not compared with itself.

    Returns:
        (), zero without images or without a pair of views.
    """
    target = ((teacher.detach().float() - center) / teacher_temperature).softmax(dim=-1)
    log_prediction = (student.float() / student_temperature).log_softmax(dim=-1)
    # One number for each pair of views: nothing of size V_t x V_s x B x P is made.
    cross_entropy = -torch.einsum("tbp,sbp->ts", target, log_prediction)
    different = torch.ones_like(cross_entropy)
    different[range(shared_views), range(shared_views)] = 0
    num_pairs = different.numel() - shared_views
    return (different * cross_entropy).sum() / max(num_pairs * student.shape[1], 1)


@OBJECTIVES.register_module()
class LocalToGlobalDistillation(Objective):
    """Local views predict the EMA teacher's global views: ``loss_local_to_global``.

    SILC (Naeem et al., ECCV 2024, "SILC: Improving Vision Language Pretraining with
    Self-Distillation"), whose second term is DINO's (Caron et al., ICCV 2021, "Emerging Properties
    in Self-Supervised Vision Transformers"). With t and s prototype logits of a teacher and a
    student view of image b, and H(p, q) = -sum p log q::

        p_t = softmax((t - center) / teacher_temperature)                       (DINO, Eq. 1)
        p_s = softmax(s / student_temperature)
        L   = mean over images b and pairs of views of H(p_t, p_s)              (DINO, Eq. 3)
        center <- m center + (1 - m) mean of t over images and teacher views    (DINO, Eq. 4)

    As in SILC the student sees local views only. Where it sees the global views as well, as in
    DINO, they come first and ``shared_views`` leaves out the pairs of a view with itself. DINO's
    Eq. 3 adds up the pairs; its code (facebookresearch/dino, ``DINOLoss``) takes their mean, as
    here. SILC's repository has no code.

    The center that enters the loss is the one before this step's update. It is updated in
    training mode only, with the mean over the global batch, so it stays equal on all ranks.

    Args:
        num_prototypes: P.
        student_temperature: Temperature of the student.
        teacher_temperature: Temperature of the teacher, after warm-up. Lower sharpens.
        warmup_teacher_temperature: Temperature of the teacher at the first step.
        warmup_steps: Training steps until ``teacher_temperature`` is reached; see
            :func:`warmed_up_temperature`.
        center_momentum: m, the share of the old center that is kept.
        shared_views: Number of leading student views that are the teacher's leading views.
        weight: Factor on the loss.

    Attributes:
        center: (P,) float32 buffer.
        step: () int64 buffer, the number of training steps taken.

    Raises:
        ValueError: For a temperature, momentum or count out of range.
    """

    needs = frozenset({"student_prototypes", "teacher_prototypes"})

    center: Tensor
    step: Tensor

    def __init__(
        self,
        *,
        num_prototypes: int,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        warmup_teacher_temperature: float = 0.04,
        warmup_steps: int = 0,
        center_momentum: float = 0.9,
        shared_views: int = 0,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight=weight)
        if min(student_temperature, teacher_temperature, warmup_teacher_temperature) <= 0:
            raise ValueError(
                "temperatures must be positive, got student_temperature="
                f"{student_temperature}, teacher_temperature={teacher_temperature}, "
                f"warmup_teacher_temperature={warmup_teacher_temperature}"
            )
        if not 0 <= center_momentum <= 1:
            raise ValueError(f"center_momentum must be in [0, 1], got {center_momentum}")
        if num_prototypes < 1 or min(warmup_steps, shared_views) < 0:
            raise ValueError(
                "num_prototypes must be at least 1, warmup_steps and shared_views at least 0, "
                f"got {num_prototypes}, {warmup_steps} and {shared_views}"
            )
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.warmup_teacher_temperature = warmup_teacher_temperature
        self.warmup_steps = warmup_steps
        self.center_momentum = center_momentum
        self.shared_views = shared_views
        self.register_buffer("center", torch.zeros(num_prototypes))
        self.register_buffer("step", torch.tensor(0))

    def compute(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """See the class; zero without images.

        Raises:
            ValueError: If the shapes of the logits do not fit each other, ``num_prototypes`` or
                ``shared_views``.
        """
        student, teacher = embeddings.student_prototypes, embeddings.teacher_prototypes
        self._check_shapes(student, teacher)
        temperature = warmed_up_temperature(
            int(self.step),
            start=self.warmup_teacher_temperature,
            end=self.teacher_temperature,
            warmup_steps=self.warmup_steps,
        )
        loss = local_to_global_loss(
            student,
            teacher,
            self.center,
            student_temperature=self.student_temperature,
            teacher_temperature=temperature,
            shared_views=self.shared_views,
        )
        if self.training:
            self._update(teacher)
        return {"loss_local_to_global": loss}

    @torch.no_grad()
    def _update(self, teacher: Tensor) -> None:
        self.step += 1
        if teacher.shape[0] and teacher.shape[1]:
            self.center.lerp_(teacher.float().mean(dim=(0, 1)), 1 - self.center_momentum)

    def _check_shapes(self, student: Tensor, teacher: Tensor) -> None:
        shapes = f"student_prototypes {tuple(student.shape)}, teacher {tuple(teacher.shape)}"
        if student.ndim != 3 or teacher.ndim != 3 or student.shape[1:] != teacher.shape[1:]:
            raise ValueError(f"{shapes}: expected (V_s, B, P) and (V_t, B, P)")
        if student.shape[2] != len(self.center):
            raise ValueError(f"{shapes}: expected num_prototypes={len(self.center)} as last size")
        if self.shared_views > min(len(student), len(teacher)):
            raise ValueError(f"{shapes}: fewer views than shared_views={self.shared_views}")
