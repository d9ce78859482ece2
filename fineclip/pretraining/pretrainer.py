"""FineCLIPPretrainer: batch -> embeddings -> objectives."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from fineclip.embeddings import Embeddings
from fineclip.evaluation.prediction import predict
from fineclip.models import CLIPPreprocessor, DenseCLIP
from fineclip.objectives import Objective, compared_fields, needed_fields
from fineclip.parallel import ChunkPlanner, gather_embeddings, sum_shares
from fineclip.pretraining.ema_teacher import EMATeacher
from fineclip.pretraining.encodings import (
    check_batch,
    crop_jobs,
    image_jobs,
    text_jobs,
    view_jobs,
)
from fineclip.pretraining.frozen_teacher import FrozenTeacher
from fineclip.pretraining.prototype_head import PrototypeHead
from fineclip.registry import MODELS, OBJECTIVES
from fineclip.text import Vocabulary
from fineclip.text.templates import Template

PARTS = ("image", "text", "logit_scale")


@MODELS.register_module()
class FineCLIPPretrainer(BaseModel):
    """Trains a :class:`DenseCLIP` with any list of objectives.

    Only the embeddings that the objectives need are computed: image, patches and dense map share
    all they have in common, captions and region captions are one pass of the text tower.
    Embeddings are gathered over processes before the objectives see them, so every rank evaluates
    the losses of the global batch.

    Objectives that compare with a teacher bring theirs along:

    - ``teacher_crop``, ``vocabulary`` and ``region_label`` (CLIPSelf, RegionCLIP): a
      :class:`FrozenTeacher`, in no checkpoint, rebuilt from the config on resume. To start from
      trained weights therefore set ``pretrained`` of ``clip``: a runner's ``load_from`` comes
      after the teacher was copied and changes the student alone.
    - ``student_prototypes`` and ``teacher_prototypes`` (SILC): a trained :class:`PrototypeHead` on
      the raw image embedding and an :class:`EMATeacher`, both in the checkpoints. The student sees
      local views and the teacher global ones. The teacher moves by
      :class:`fineclip.engine.EMATeacherHook`, or :meth:`start_ema_teacher` and
      :meth:`update_ema_teacher` in a loop of one's own.

    Args:
        clip: The model, or its config.
        objectives: Objectives or their configs; their losses are summed. Parameters of theirs
            (the prototypes of MGCA) always train.
        trainable: Which parts train, out of "image", "text" and "logit_scale" (the bias of
            sigmoid losses included). The default is FineCLIP's: the text tower is frozen and
            stays in eval mode.
        unlocked_groups: Train only so many last blocks of the image tower (of a ResNet: stages),
            as CLIPSelf does with all of them: patch embedding, class token, positions, final norm
            and projection are frozen then. None: the whole tower. open_clip's ``lock`` counts other
            groups: the first of its groups is the projection.
        teacher: The frozen teacher or its config, where one is needed; None: a copy of ``clip``
            as constructed.
        vocabulary: Categories of RegionCLIP: a vocabulary, its name or JSON file, or a list of
            names. The teacher's text tower embeds them once.
        templates: Prompts of the categories, see :func:`fineclip.text.get_templates`.
        prototype_head: SILC's head, or arguments of :class:`PrototypeHead` but for ``in_dim``.
        chunk_sizes: Rows that are encoded at a time, by "images", "crops", "texts" and "views" (as
            images); what is left out, or None, goes as one. "auto" chunks as little as
            ``memory_budget`` allows. Chunks are encoded a second time in the backward pass: same
            losses and gradients, less memory (:mod:`fineclip.parallel.chunked`).
        memory_budget: Bytes of activations kept at a time under "auto"; None: half of what is
            free on the device at the first step.
        grad_checkpointing: Recompute transformer blocks in the backward pass.
        compile_blocks: Run the blocks of both towers through ``torch.compile``, which compiles
            one block for all of a kind; a dict: with these options of ``torch.compile``.
        channels_last: Keep convolution weights in channels-last order, as fast kernels of
            convolutional towers (ResNet) want them.
        local_loss: With several processes, each evaluates the losses of its own rows against all
            others instead of all rows: the same losses and gradients for less memory.
        data_preprocessor: Config of the preprocessor; by default pixels are normalised with the
            model's own mean and std.

    Raises:
        ValueError: For an unknown part in ``trainable``, more blocks than there are, or where the
            objectives need something that the arguments do not provide.
    """

    def __init__(
        self,
        clip: DenseCLIP | dict[str, Any],
        objectives: Sequence[Objective | dict[str, Any]],
        *,
        trainable: Sequence[str] = ("image", "logit_scale"),
        unlocked_groups: int | None = None,
        teacher: DenseCLIP | dict[str, Any] | None = None,
        vocabulary: str | Path | Vocabulary | Sequence[str] | None = None,
        templates: str | Sequence[str] | Template = "vild",
        prototype_head: nn.Module | dict[str, Any] | None = None,
        chunk_sizes: Mapping[str, int | None] | Literal["auto"] | None = None,
        memory_budget: float | None = None,
        grad_checkpointing: bool = False,
        compile_blocks: bool | Mapping[str, Any] = False,
        channels_last: bool = False,
        local_loss: bool = False,
        data_preprocessor: nn.Module | dict[str, Any] | None = None,
    ) -> None:
        if unknown := sorted(set(trainable) - set(PARTS)):
            raise ValueError(f"trainable: unknown {', '.join(unknown)}; known: {', '.join(PARTS)}")
        clip = MODELS.build(clip) if isinstance(clip, dict) else clip
        if data_preprocessor is None:
            data_preprocessor = CLIPPreprocessor(mean=clip.image_mean, std=clip.image_std)
        super().__init__(data_preprocessor=data_preprocessor)
        self.clip = clip
        # To a type checker, a ModuleList holds modules of any kind.
        self.objectives = cast(
            Sequence[Objective],
            nn.ModuleList(
                _build_objective(o, clip.embed_dim) if isinstance(o, dict) else o
                for o in objectives
            ),
        )
        self.needs = needed_fields(self.objectives)
        self.trainable = tuple(trainable)
        self.local_loss = local_loss
        self.chunks = ChunkPlanner(chunk_sizes, memory_budget)
        if grad_checkpointing:
            clip.clip.set_grad_checkpointing()
        if channels_last:
            clip.clip.visual.to(memory_format=torch.channels_last)
        if compile_blocks:
            clip.compile_blocks(**({} if compile_blocks is True else compile_blocks))
        if "logit_bias" in self.needs and clip.logit_bias is None:
            raise ValueError(
                f"{self._who_needs('logit_bias')}: sigmoid losses need a model with a bias; create "
                "it with init_logit_bias=-10 (and init_logit_scale=log 10), as SigLIP starts"
            )
        self.teacher = self._build_teacher(teacher, vocabulary, templates)
        self.prototype_head, self.ema_teacher = self._build_prototypes(prototype_head)
        locked = self._locked(unlocked_groups)
        for name, parameter in self.clip.clip.named_parameters():
            trains = _part_of(name) in trainable and id(parameter) not in locked
            parameter.requires_grad_(parameter.requires_grad and trains)

    def _locked(self, unlocked_groups: int | None) -> set[int]:
        """Ids of the image tower's parameters that are not of its last blocks."""
        if unlocked_groups is None:
            return set()
        blocks = self.clip.trunk.stages
        if not 1 <= unlocked_groups <= len(blocks):
            raise ValueError(
                f"unlocked_groups must be from 1 to {len(blocks)}, the blocks of the image tower, "
                f"got {unlocked_groups}"
            )
        unlocked = {
            id(parameter)
            for block in blocks[len(blocks) - unlocked_groups :]
            for parameter in block.parameters()
        }
        return {id(parameter) for parameter in self.clip.clip.visual.parameters()} - unlocked

    def _build_teacher(
        self, teacher: Any, vocabulary: Any, templates: str | Sequence[str] | Template
    ) -> FrozenTeacher | None:
        if "vocabulary" in self.needs:
            if vocabulary is None:
                raise ValueError(
                    f"{self._who_needs('vocabulary')}: set vocabulary=... to a vocabulary's name, "
                    "a JSON file of categories or a list of names"
                )
        elif vocabulary is not None:
            _warn("vocabulary is ignored: no objective classifies regions")
            vocabulary = None
        if self.needs & {"teacher_crop", "vocabulary", "region_label"}:
            return FrozenTeacher(self.clip, teacher, vocabulary=vocabulary, templates=templates)
        if teacher is not None:
            _warn("teacher is ignored: no objective needs one")
        return None

    def _build_prototypes(
        self, head: nn.Module | dict[str, Any] | None
    ) -> tuple[nn.Module | None, EMATeacher | None]:
        if not self.needs & {"student_prototypes", "teacher_prototypes"}:
            if head is not None:
                _warn("prototype_head is ignored: no objective compares prototypes")
            return None, None
        if head is None:
            raise ValueError(
                f"{self._who_needs('student_prototypes')}: set "
                "prototype_head=dict(num_prototypes=...)"
            )
        if isinstance(head, dict):
            settings = {"type": PrototypeHead, "in_dim": self.clip.embed_dim, **head}
            built: nn.Module = MODELS.build(settings)
        else:
            built = head
        return built, EMATeacher(self.clip, built)

    def _who_needs(self, field: str) -> str:
        return ", ".join(type(o).__name__ for o in self.objectives if field in o.needs)

    def train(self, mode: bool = True) -> FineCLIPPretrainer:
        """Frozen towers stay in eval mode."""
        super().train(mode)
        for name, module in self.clip.clip.named_children():
            if _part_of(name) not in self.trainable:
                module.eval()
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FineCLIPPretrainer:
        """Takes the frozen teacher, which is no submodule, to another device or dtype as well."""
        super()._apply(fn, recurse)
        if self.teacher is not None:
            self.teacher.apply(fn)
        return self

    def forward(self, mode: str = "loss", **batch: Any) -> Any:
        """Mmengine's entry point; see :meth:`loss`, :meth:`embed` and :meth:`predict`.

        Args:
            mode: "loss", "tensor" or "predict".
            **batch: The fields of the preprocessed batch.
        """
        if mode == "loss":
            return self.loss(**batch)
        if mode == "tensor":
            return self.embed(**batch)
        if mode == "predict":
            return self.predict(**batch)
        raise ValueError(f"mode must be 'loss', 'tensor' or 'predict', got {mode!r}")

    def loss(self, **batch: Tensor) -> dict[str, Tensor]:
        """Losses of the global batch, named ``loss_*``, and what is logged beside them.

        Raises:
            ValueError: If a field of the batch is missing, two objectives give their losses one
                name, or the EMA teacher has not been started.
        """
        if self.training and self.ema_teacher is not None and not self.ema_teacher.started:
            raise ValueError(
                "the EMA teacher has not been started, so nothing would update it: add "
                'dict(type="EMATeacherHook") to custom_hooks'
            )

        # ---- Encode this process's rows.
        embeddings = self.embed(**batch)

        # ---- Gather: from here on, rows are those of all processes.
        embeddings = gather_embeddings(
            embeddings,
            local_loss=self.local_loss,
            compared=compared_fields(self.objectives) if self.local_loss else None,
        )

        # ---- Losses: each objective is a function of the embeddings.
        outputs = self._evaluate(embeddings)
        if embeddings.share is not None:
            outputs = sum_shares(outputs)

        # ---- Only watched: mmengine adds up what has "loss" in its name, and logs the rest.
        outputs["logit_scale"] = self.clip.logit_scale.detach().float()
        if embeddings.own.region is not None:
            outputs["num_regions"] = outputs["logit_scale"].new_tensor(embeddings.num_regions)
        return outputs

    def _evaluate(self, embeddings: Embeddings) -> dict[str, Tensor]:
        """The losses of all objectives by name."""
        losses: dict[str, Tensor] = {}
        source: dict[str, str] = {}
        for objective in self.objectives:
            for name, loss in objective(embeddings).items():
                if name in losses:
                    raise ValueError(
                        f"{source[name]} and {type(objective).__name__} both name a loss {name}, "
                        "and one would hide the other: keep one of them"
                    )
                losses[name], source[name] = loss, type(objective).__name__
        return losses

    def embed(self, **batch: Tensor) -> Embeddings:
        """Embeds what the objectives need of one batch.

        Args:
            **batch: Of these, what the objectives need (:data:`fineclip.embeddings.FIELDS` says
                which):

                - images: (B, 3, H, W).
                - texts: (B, T) int64 caption tokens.
                - boxes: (R, 4) xyxy normalised to [0, 1] of the input.
                - region_image: (R,) int64 image index of each box, ascending.
                - crops: (R, 3, h, w), or :class:`fineclip.datasets.ShapedCrops`, read by the model
                  and by the frozen teacher.
                - region_texts: (R, T) int64 region caption tokens.
                - region_labels: (R,) int64 index into the vocabulary, -1 for none. Where there is
                  none, and the batch has crops, the category nearest to the teacher's embedding
                  of the crop is the label (RegionCLIP's pseudo-labels).
                - global_views: (B, V_t, 3, H', W') for the EMA teacher.
                - local_views: (B, V_s, 3, h', w') for the student.

        Raises:
            TypeError: If the batch holds something else.
            ValueError: If a field that an objective needs is missing.
        """
        check_batch(batch, self.objectives)

        # ---- What is to be encoded: one job per encoder.
        image_trains, text_trains = "image" in self.trainable, "text" in self.trainable
        # A crop that is a fixed target for all who read it needs no graph.
        crop_trains = image_trains and any("crop" in o.needs - o.detached for o in self.objectives)
        jobs = [
            *text_jobs(self.clip, batch, self.needs, trains=text_trains),
            *image_jobs(self.clip, batch, self.needs, trains=image_trains),
            *crop_jobs(self.clip, self.teacher, batch, self.needs, trains=crop_trains),
            *view_jobs(
                self.clip,
                self.prototype_head,
                self.ema_teacher,
                batch,
                self.needs,
                trains=image_trains,
            ),
        ]

        # ---- Encode, whole or in chunks that are encoded again in the backward pass.
        result = Embeddings(logit_scale=self.clip.logit_scale)
        if self.clip.logit_bias is not None:
            result.logit_bias = self.clip.logit_bias
        for job, chunks in zip(jobs, self.chunks.plan(jobs), strict=True):
            for name, rows in job.run(chunks).items():
                setattr(result, name, rows)

        # ---- What needs no encoder, or comes from the teacher's side.
        if "region_image" in self.needs:
            result.region_image = batch["region_image"]
        if self.teacher is not None and "vocabulary" in self.needs:
            result.vocabulary = self.teacher.category_embeddings()
        if self.teacher is not None and "region_label" in self.needs:
            labels = self.teacher.label_regions(
                batch.get("crops"), batch.get("region_labels"), result.teacher_crop
            )
            assert labels is not None  # check_batch has seen to it that there is one of the two
            result.region_label = labels
        return result

    def predict(self, **batch: Any) -> list[dict[str, Any]]:
        """Embeddings for evaluation, per image: :func:`fineclip.evaluation.prediction.predict`."""
        return predict(self.clip, **batch)

    def start_ema_teacher(self) -> None:
        """Sets the EMA teacher to the student, unless it has been started before.

        Called when the student's weights are loaded and training begins.

        Raises:
            ValueError: If there is no EMA teacher.
        """
        if self.ema_teacher is None or self.prototype_head is None:
            raise ValueError(
                "there is no EMA teacher: none of the objectives compares prototypes; take "
                "EMATeacherHook out of custom_hooks or add LocalToGlobalDistillation"
            )
        self.ema_teacher.start(self.clip, self.prototype_head)

    def update_ema_teacher(self, momentum: float) -> None:
        """Moves the EMA teacher, after each optimizer step; ``momentum`` is the share it keeps."""
        assert self.ema_teacher is not None and self.prototype_head is not None
        self.ema_teacher.update(self.clip, self.prototype_head, momentum)


def _build_objective(config: dict[str, Any], embed_dim: int) -> Objective:
    """One from its config, with the size of the embeddings where its prototypes ask for it."""
    built = OBJECTIVES.get(str(config.get("type")))
    if built is not None and "embed_dim" in inspect.signature(built).parameters:
        config = {"embed_dim": embed_dim, **config}
    return OBJECTIVES.build(config)


def _part_of(parameter_name: str) -> str:
    """Which of :data:`PARTS` a parameter or child of an open_clip model belongs to."""
    top = parameter_name.split(".")[0]
    if top == "visual":
        return "image"
    return "logit_scale" if top in ("logit_scale", "logit_bias") else "text"


def _warn(message: str) -> None:
    print_log(message, "current", level=logging.WARNING)
