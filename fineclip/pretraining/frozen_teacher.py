"""A CLIP that a student is compared with and that never changes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fineclip.datasets import ShapedCrops
from fineclip.models import build_class_embeddings
from fineclip.models.dense_clip import DenseCLIP
from fineclip.objectives import pseudo_labels
from fineclip.registry import MODELS
from fineclip.text import Vocabulary, as_vocabulary, get_templates
from fineclip.text.templates import Template


class FrozenTeacher:
    """Crop and category embeddings by a frozen :class:`DenseCLIP`.

    No ``nn.Module``, so that a model that holds one neither trains it nor hands it to
    DistributedDataParallel nor saves it: it is rebuilt from the config when a run is resumed.
    Its owner moves it with :meth:`apply`.

    Args:
        student: The model being trained, as constructed.
        teacher: The teacher or its config; None: a copy of ``student``.
        vocabulary: Categories: a vocabulary, its name or JSON file, or a list of names.
        templates: Prompts of the categories, see :func:`fineclip.text.get_templates`.

    Raises:
        ValueError: An unknown vocabulary or template, or a teacher whose embeddings or pixels do
            not fit the student.
        FileNotFoundError: The vocabulary's file does not exist.
    """

    def __init__(
        self,
        student: DenseCLIP,
        teacher: DenseCLIP | dict[str, Any] | None = None,
        *,
        vocabulary: str | Path | Vocabulary | Sequence[str] | None = None,
        templates: str | Sequence[str] | Template = "vild",
    ) -> None:
        # What is wrong with the categories shows now, not when they are first needed.
        self.names = None if vocabulary is None else as_vocabulary(vocabulary).prompt_names
        self.templates = get_templates(templates)
        clip: DenseCLIP = MODELS.build(teacher) if isinstance(teacher, dict) else teacher or student
        if clip is student:
            clip = copy.deepcopy(student)
        if clip.embed_dim != student.embed_dim:
            raise ValueError(
                f"teacher: its embeddings have size {clip.embed_dim}, the trained model's "
                f"{student.embed_dim}; they cannot be compared"
            )
        pixels = [(model.image_mean, model.image_std) for model in (clip, student)]
        if pixels[0] != pixels[1]:
            raise ValueError(
                "teacher: expects pixels of mean and std {} and the trained model {}; both read "
                "the same normalised crops. Set force_preprocess_cfg of one of them".format(*pixels)
            )
        self.clip = clip.requires_grad_(False).eval()
        self._category_embeddings: Tensor | None = None

    def apply(self, function: Callable[[Tensor], Tensor]) -> None:
        """Converts all tensors, as ``nn.Module._apply`` does: to a device or a dtype."""
        self.clip._apply(function)
        if self._category_embeddings is not None:
            self._category_embeddings = function(self._category_embeddings)

    @torch.no_grad()
    def encode_crops(self, crops: Tensor) -> Tensor:
        """(R, 3, h, w) normalised crops -> (R, D) unit embeddings without graph."""
        return self.clip.encode_image(crops)

    def category_embeddings(self) -> Tensor:
        """(K, D) float32 unit embeddings of the vocabulary's categories.

        Made when first asked for, on the device the teacher has been moved to by then:
        thousands of names with dozens of prompts each take long on a CPU.
        """
        if self._category_embeddings is None:
            assert self.names is not None, "there is no vocabulary"
            with torch.autocast(self.clip.device.type, enabled=False):
                self._category_embeddings = build_class_embeddings(
                    self.clip, self.names, self.templates
                )
        return self._category_embeddings

    @torch.no_grad()
    def label_regions(
        self,
        crops: Tensor | ShapedCrops | None,
        labels: Tensor | None,
        teacher_crop: Tensor | None = None,
    ) -> Tensor | None:
        """Labels regions that have no label with the category nearest to their crop.

        Args:
            crops: (R, 3, h, w) or R of several shapes, normalised; None: nothing is labelled.
            labels: (R,) int64 category of each region, -1 for none; None: none has one.
            teacher_crop: (R, D) embeddings of the crops, where they have been made.

        Returns:
            (R,) int64; -1 is left only where there are no crops. None without crops and labels.
        """
        if crops is None:
            return labels
        rows = crops.places if isinstance(crops, ShapedCrops) else crops
        if labels is None:
            labels = torch.full((len(rows),), -1, device=rows.device)
        without = labels < 0
        if teacher_crop is not None:
            embedded = teacher_crop[without]
        elif isinstance(crops, ShapedCrops):
            embedded = crops.embedded(self.encode_crops)[without]
        else:
            embedded = self.encode_crops(crops[without])
        # Neighbouring categories of thousands are closer than half precision tells apart.
        with torch.autocast(rows.device.type, enabled=False):
            nearest, _ = pseudo_labels(embedded, self.category_embeddings())
        return labels.masked_scatter(without, nearest)
