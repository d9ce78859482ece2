"""FineCLIPPretrainer: batch -> embeddings -> objectives."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from fineclip.embeddings import Embeddings
from fineclip.models.dense_clip import DenseCLIP
from fineclip.models.pooling import pool_boxes
from fineclip.objectives import Objective, compared_fields
from fineclip.parallel import ChunkPlanner, Encoding, gather_embeddings, sum_shares
from fineclip.pretraining.ema_teacher import EMATeacher
from fineclip.pretraining.frozen_teacher import FrozenTeacher
from fineclip.pretraining.preprocessor import RegionTextPreprocessor
from fineclip.pretraining.prototype_head import PrototypeHead
from fineclip.registry import MODELS, OBJECTIVES
from fineclip.text import Vocabulary
from fineclip.text.templates import Template

PARTS = ("image", "text", "logit_scale")

_INPUTS = {
    "image": ("images",),
    "patches": ("images",),
    "region": ("images", "boxes", "region_image"),
    "crop": ("crops",),
    "teacher_crop": ("crops",),
    "text": ("texts",),
    "text_tokens": ("texts",),
    "text_mask": ("texts",),
    "region_text": ("region_texts",),
    "student_prototypes": ("local_views",),
    "teacher_prototypes": ("global_views",),
}
"""Fields of the batch that each field of :class:`Embeddings` is made of."""


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
      local views, the teacher global ones, and the image-text losses the plain image. The
      teacher moves by :class:`fineclip.engine.EMATeacherHook`, or :meth:`start_ema_teacher` and
      :meth:`update_ema_teacher` in a loop of one's own.

    Args:
        clip: The model, or its config.
        objectives: Objectives or their configs; their losses are summed.
        trainable: Which parts train, out of "image", "text" and "logit_scale" (the bias of
            sigmoid losses included). The default is FineCLIP's: the text tower is frozen and
            stays in eval mode.
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
        ValueError: For an unknown part in ``trainable``, or where the objectives need something
            that the arguments do not provide.
    """

    def __init__(
        self,
        clip: DenseCLIP | dict[str, Any],
        objectives: Sequence[Objective | dict[str, Any]],
        *,
        trainable: Sequence[str] = ("image", "logit_scale"),
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
            data_preprocessor = RegionTextPreprocessor(mean=clip.image_mean, std=clip.image_std)
        super().__init__(data_preprocessor=data_preprocessor)
        self.clip = clip
        self.objectives = nn.ModuleList(
            OBJECTIVES.build(o) if isinstance(o, dict) else o for o in objectives
        )
        self.needs = frozenset().union(*(objective.needs for objective in self.objectives))
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
        for name, parameter in self.clip.clip.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and _part_of(name) in trainable)

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
            head = MODELS.build(settings)
        return head, EMATeacher(self.clip, head)

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
        embeddings = gather_embeddings(
            self.embed(**batch),
            local_loss=self.local_loss,
            compared=compared_fields(self.objectives) if self.local_loss else None,
        )
        outputs: dict[str, Tensor] = {}
        source: dict[str, str] = {}
        for objective in self.objectives:
            for name, loss in objective(embeddings).items():
                if name in outputs:
                    raise ValueError(
                        f"{source[name]} and {type(objective).__name__} both name a loss {name}, "
                        "and one would hide the other: keep one of them"
                    )
                outputs[name], source[name] = loss, type(objective).__name__
        if embeddings.share is not None:
            outputs = sum_shares(outputs)
        outputs["logit_scale"] = self.clip.logit_scale.detach().float()
        if embeddings.own.region is not None:
            outputs["num_regions"] = outputs["logit_scale"].new_tensor(embeddings.num_regions)
        return outputs

    def embed(
        self,
        *,
        images: Tensor,
        texts: Tensor | None = None,
        boxes: Tensor | None = None,
        region_image: Tensor | None = None,
        crops: Tensor | None = None,
        region_texts: Tensor | None = None,
        region_labels: Tensor | None = None,
        global_views: Tensor | None = None,
        local_views: Tensor | None = None,
    ) -> Embeddings:
        """Embeds what the objectives need of one batch.

        Args:
            images: (B, 3, H, W).
            texts: (B, T) int64 caption tokens.
            boxes: (R, 4) xyxy normalised to [0, 1] of the input.
            region_image: (R,) int64 image index of each box, ascending.
            crops: (R, 3, h, w), read by the model and by the frozen teacher.
            region_texts: (R, T) int64 region caption tokens.
            region_labels: (R,) int64 index into the vocabulary, -1 for none. Where there is
                none, and the batch has crops, the category nearest to the teacher's embedding of
                the crop is the label (RegionCLIP's pseudo-labels).
            global_views: (B, V_t, 3, H', W') for the EMA teacher.
            local_views: (B, V_s, 3, h', w') for the student.

        Raises:
            ValueError: If a field that an objective needs is missing.
        """
        self._check_inputs(
            images=images,
            texts=texts,
            boxes=boxes,
            region_image=region_image,
            crops=crops,
            region_texts=region_texts,
            region_labels=region_labels,
            global_views=global_views,
            local_views=local_views,
        )
        result = Embeddings(logit_scale=self.clip.logit_scale, logit_bias=self.clip.logit_bias)
        encodings = [
            *self._text_encodings(texts, region_texts),
            *self._image_encodings(images, boxes, region_image),
            *self._crop_encodings(crops),
            *self._view_encodings(global_views, local_views),
        ]
        for encoding, size in zip(encodings, self.chunks.plan(encodings), strict=True):
            for name, rows in encoding.run(size).items():
                setattr(result, name, rows)
        if result.region is not None and result.image is not None:
            result.region_image = region_image
        if "vocabulary" in self.needs:
            result.vocabulary = self.teacher.category_embeddings()
        if "region_label" in self.needs:
            result.region_label = self.teacher.label_regions(
                crops, region_labels, result.teacher_crop
            )
        return result

    def _check_inputs(self, **batch: Tensor | None) -> None:
        wanted = {name for need in self.needs for name in _INPUTS.get(need, ())}
        # Without labels there have to be crops to make them from.
        if "region_label" in self.needs and batch["region_labels"] is None:
            wanted.add("crops")
        if missing := sorted(name for name in wanted if batch[name] is None):
            names = ", ".join(type(objective).__name__ for objective in self.objectives)
            raise ValueError(
                f"the objectives ({names}) need {', '.join(missing)}, which the batch does not "
                "have; what it holds is set by the data set's fields, labels and views"
            )

    def _text_encodings(
        self, texts: Tensor | None, region_texts: Tensor | None
    ) -> Iterator[Encoding]:
        """Captions and region captions as one, each different one once."""
        trains = "text" in self.trainable
        rows = {"text": texts, "region_text": region_texts}
        if self.needs & {"text_tokens", "text_mask"}:
            # Apart from the region captions, which are embedded as a whole: their (R, T, D) would
            # be a lot of memory for nothing.
            captions = rows.pop("text")
            yield Encoding(
                "texts",
                ("text", "text_tokens", "text_mask"),
                self.clip.encode_text_and_tokens,
                len(captions),
                lambda start, end: (captions[start:end],),
                trains,
            )
        rows = {name: tokens for name, tokens in rows.items() if name in self.needs}
        if rows:
            distinct, places = self._distinct_texts(torch.cat(list(rows.values())))
            places = places.split([len(tokens) for tokens in rows.values()])
            yield Encoding(
                "texts",
                tuple(rows),
                lambda tokens: (self.clip.encode_text(tokens),),
                len(distinct),
                lambda start, end: (distinct[start:end],),
                trains,
                finish=lambda outputs: tuple(outputs[0][place] for place in places),
            )

    def _distinct_texts(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The different rows of (N, T) tokens, longest first, and (N,) where each row went.

        Captions made from category names recur; and a chunk of texts of similar length has little
        padding.
        """
        if not len(tokens):
            return tokens, tokens.new_zeros(0)
        distinct, places = tokens.unique(dim=0, return_inverse=True)
        order = self.clip.text_tower.lengths(distinct).argsort(descending=True, stable=True)
        return distinct[order], order.argsort()[places]

    def _image_encodings(
        self, images: Tensor, boxes: Tensor | None, region_image: Tensor | None
    ) -> Iterator[Encoding]:
        """Image, patches and regions, with what they share run once."""
        fields = tuple(sorted(self.needs & {"image", "patches"}))
        with_regions = "region" in self.needs
        if not fields and not with_regions:
            return
        outputs = {*fields, "dense"} if with_regions else set(fields)

        def encode(images: Tensor, *regions: Tensor) -> tuple[Tensor, ...]:
            found = self.clip.encode_visual(images, outputs)
            pooled = [pool_boxes(found["dense"], *regions)] if with_regions else []
            return (*(found[name] for name in fields), *pooled)

        @cache  # once a step, and only if there are chunks: it waits for the device
        def first_regions() -> list[int]:
            starts = torch.arange(len(images) + 1, device=region_image.device)
            return torch.searchsorted(region_image, starts).tolist()

        def inputs(start: int, end: int) -> tuple[Tensor, ...]:
            if not with_regions:
                return (images[start:end],)
            if (start, end) == (0, len(images)):
                return images, boxes, region_image
            rows = slice(first_regions()[start], first_regions()[end])
            return images[start:end], boxes[rows], region_image[rows] - start

        yield Encoding(
            "images",
            (*fields, "region") if with_regions else fields,
            encode,
            len(images),
            inputs,
            "image" in self.trainable,
        )

    def _crop_encodings(self, crops: Tensor | None) -> Iterator[Encoding]:
        """Crops by the model and by its frozen teacher."""
        for name, encode in (
            ("crop", lambda rows: (self.clip.encode_image(rows),)),
            ("teacher_crop", lambda rows: (self.teacher.encode_crops(rows),)),
        ):
            if name in self.needs:
                # Not if all who read it take it as a fixed target.
                learns = any(name in o.needs - o.detached for o in self.objectives)
                yield Encoding(
                    "crops",
                    (name,),
                    encode,
                    len(crops),
                    lambda start, end: (crops[start:end],),
                    name == "crop" and learns and "image" in self.trainable,
                )

    def _view_encodings(
        self, global_views: Tensor | None, local_views: Tensor | None
    ) -> Iterator[Encoding]:
        """Prototype logits of (B, V, 3, h, w) views."""
        if self.ema_teacher is None:
            return

        def student(views: Tensor) -> tuple[Tensor]:
            with nullcontext() if "image" in self.trainable else torch.no_grad():
                embedded = self.clip.encode_image(views.flatten(0, 1), normalize=False)
            return (self.prototype_head(embedded).unflatten(0, views.shape[:2]),)

        def teacher(views: Tensor) -> tuple[Tensor]:
            return (self.ema_teacher(views.flatten(0, 1)).unflatten(0, views.shape[:2]),)

        for name, encode, views in (
            ("student_prototypes", student, local_views),
            ("teacher_prototypes", teacher, global_views),
        ):
            yield Encoding(
                "views",
                (name,),
                encode,
                len(views),
                lambda start, end, views=views: (views[start:end],),
                name == "student_prototypes",
                finish=lambda outputs: (outputs[0].transpose(0, 1),),
            )

    def start_ema_teacher(self) -> None:
        """Sets the EMA teacher to the student, unless it has been started before.

        Called when the student's weights are loaded and training begins.

        Raises:
            ValueError: If there is no EMA teacher.
        """
        if self.ema_teacher is None:
            raise ValueError(
                "there is no EMA teacher: none of the objectives compares prototypes; take "
                "EMATeacherHook out of custom_hooks or add LocalToGlobalDistillation"
            )
        self.ema_teacher.start(self.clip, self.prototype_head)

    def update_ema_teacher(self, momentum: float) -> None:
        """Moves the EMA teacher, after each optimizer step; ``momentum`` is the share it keeps."""
        self.ema_teacher.update(self.clip, self.prototype_head, momentum)

    @torch.no_grad()
    def predict(
        self,
        *,
        images: Tensor,
        data_samples: Sequence[dict[str, Any]],
        boxes: Tensor | None = None,
        region_image: Tensor | None = None,
        texts: Tensor | None = None,
        text_image: Tensor | None = None,
    ) -> list[dict[str, Any]]:
        """Unit-norm float32 embeddings for evaluation, per image.

        Args:
            images: (B, 3, H, W).
            data_samples: One dict per image, copied into the result.
            boxes: (R, 4) xyxy normalised to [0, 1] of the input.
            region_image: (R,) int64 image index of each box.
            texts: (M, T) int64 tokens, any number per image.
            text_image: (M,) int64 image index of each text.

        Returns:
            Per image its data sample with ``image_embedding`` (D,) and, where inputs were given,
            ``region_embeddings`` (n_i, D) and ``text_embeddings`` (m_i, D).
        """
        results = [dict(sample) for sample in data_samples]
        if boxes is None:
            image = self.clip.encode_image(images)
        else:
            image, dense = self.clip.encode_image_and_dense(images)
            regions = nn.functional.normalize(pool_boxes(dense, boxes, region_image), dim=1)
            for index, result in enumerate(results):
                result["region_embeddings"] = regions[region_image == index]
        for result, embedding in zip(results, image, strict=True):
            result["image_embedding"] = embedding
        if texts is not None:
            embedded = self.clip.encode_text(texts)
            for index, result in enumerate(results):
                result["text_embeddings"] = embedded[text_image == index]
        return results


def _part_of(parameter_name: str) -> str:
    """Which of :data:`PARTS` a parameter or child of an open_clip model belongs to."""
    top = parameter_name.split(".")[0]
    if top == "visual":
        return "image"
    return "logit_scale" if top in ("logit_scale", "logit_bias") else "text"


def _warn(message: str) -> None:
    print_log(message, "current", level=logging.WARNING)
