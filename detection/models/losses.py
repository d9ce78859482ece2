"""Cross entropy in which classes without training boxes take no part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from mmdet.models.losses.utils import weight_reduce_loss
from mmdet.registry import MODELS
from torch import Tensor, nn

from fineclip.files import read_json
from fineclip.parallel import sample_common_classes
from fineclip.text import Vocabulary, as_vocabulary, load_vocabulary

Reduction = Literal["none", "mean", "sum"]
ClassWeight = (
    Sequence[float]
    | Sequence[str]
    | Sequence[Mapping[str, Any]]
    | Mapping[str, Any]
    | Vocabulary
    | str
    | Path
)

_ZERO = 1e-5  # below this a class is out
_IGNORED = -100


def class_weights(source: ClassWeight, background: float = 1.0) -> tuple[float, ...]:
    """Weights of K classes and the background.

    Args:
        source: One of K + 1 numbers, background included; a vocabulary in any form that
            :func:`fineclip.text.as_vocabulary` takes (novel classes 0, all others 1); a table of
            mappings with ``id`` and ``image_count``, or its JSON file (in ascending order of ids,
            1 where the training set shows the class at all).
        background: Weight of the background where ``source`` has none.

    Returns:
        K + 1 numbers, background last.

    Raises:
        ValueError: Negative weights, an unknown vocabulary, or a table without these keys.
        FileNotFoundError: The file does not exist.
    """
    if isinstance(source, str | Path):
        source = _read(source)
    elif isinstance(source, Mapping):
        source = as_vocabulary(source)
    elif not isinstance(source, Vocabulary) and len(source) and isinstance(source[0], str):
        source = as_vocabulary(cast(Sequence[str], source))
    if isinstance(source, Vocabulary):
        weights = [0.0 if split == "novel" else 1.0 for split in source.split]
        weights.append(background)
    elif len(source) and isinstance(source[0], Mapping):
        table = cast(Sequence[Mapping[str, Any]], source)
        weights = [float(row["image_count"] > 0) for row in _by_id(table)]
        weights.append(background)
    else:
        weights = [float(weight) for weight in cast(Sequence[float], source)]
    if len(weights) < 2 or min(weights) < 0:
        raise ValueError(f"class weights must be K + 1 numbers that are not negative: {weights}")
    return tuple(weights)


def _read(source: str | Path) -> Vocabulary | list[Mapping[str, Any]]:
    """A vocabulary in any form, or a table of image counts, which says nothing of splits."""
    path = Path(source)
    if path.suffix == ".json" and path.is_file():
        content = read_json(path, "class_weight")
        table = content.get("categories") if isinstance(content, Mapping) else content
        rows = table if isinstance(table, list) else []
        keys = [row.keys() if isinstance(row, Mapping) else () for row in rows]
        if any("image_count" in row for row in keys) and not any("split" in row for row in keys):
            return rows
    return load_vocabulary(source)


def _by_id(table: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    for row in table:
        if missing := {"id", "image_count"} - row.keys():
            raise ValueError(f"class_weight: category {dict(row)} lacks {sorted(missing)}")
    return sorted(table, key=lambda row: row["id"])


@MODELS.register_module()
class ClassMaskedCrossEntropy(nn.Module):
    """Classification loss of F-ViT: a weight per class, which may be zero.

    With class weights w, label y_i and sample weight s_i (F-ViT, as released):

    - softmax form: ``s_i * w[y_i] * -log softmax(logits_i)[y_i]``, where classes with a weight
      below 1e-5 (novel ones) leave the normaliser: absent, not negatives.
    - sigmoid form: ``s_i * w[c] * BCE(logit_ic, y_ic)`` over all columns c, of which the background
      is one; nothing is masked.

    Both are summed and divided by ``avg_factor``, not by the sum of weights. The caller's logits
    stay as they are (the release writes minus infinity into them), and a label of a class without
    weight, which gave NaN there, is an error in the softmax form.

    Args:
        use_sigmoid: The sigmoid form instead of the softmax form.
        class_weight: Weights, see :func:`class_weights`; None: all 1, no class masked.
        bg_weight: Weight of the background where ``class_weight`` has none.
        federated_classes: In each call only so many foreground classes count: those that occur
            among the labels of all processes, and others drawn among the classes with weight
            (:func:`fineclip.parallel.sample_common_classes`). None: all.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``; ``"mean"`` without ``avg_factor`` divides by
            the number of samples (softmax) or of entries (sigmoid).
        loss_weight: Factor on the result.

    Raises:
        ValueError: Unknown reduction, or class weights that :func:`class_weights` refuses.
        FileNotFoundError: As :func:`class_weights`.
    """

    class_weight: Tensor | None

    def __init__(
        self,
        use_sigmoid: bool = False,
        *,
        class_weight: ClassWeight | None = None,
        bg_weight: float = 1.0,
        federated_classes: int | None = None,
        reduction: Reduction = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if reduction not in ("none", "mean", "sum"):
            raise ValueError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}")
        self.use_sigmoid = use_sigmoid
        self.reduction = reduction
        self.loss_weight = loss_weight
        self.federated_classes = federated_classes
        weights = None if class_weight is None else class_weights(class_weight, bg_weight)
        values = None if weights is None else torch.tensor(weights)
        self.register_buffer("class_weight", values, persistent=False)

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """The loss.

        Args:
            cls_score: (R, K + 1) logits, background last.
            label: (R,) int64 classes, K for background, -100 to leave a sample out; in the sigmoid
                form also (R, K + 1) targets in [0, 1].
            weight: (R,) weight of each sample.
            avg_factor: What the sum is divided by (with ``"mean"``).
            reduction_override: Another reduction for this call.

        Returns:
            (), or without reduction (R,) (softmax) or (R, K + 1) (sigmoid).

        Raises:
            ValueError: Not K + 1 columns, or in the softmax form a label without weight.
        """
        weights = self._weights(cls_score, label)
        weights = weights.to(cls_score.dtype)
        form = _sigmoid if self.use_sigmoid else _softmax
        losses, sample_weight = form(cls_score, label, weight, weights)
        reduced = weight_reduce_loss(
            losses, sample_weight, reduction_override or self.reduction, avg_factor
        )
        return self.loss_weight * reduced

    def _weights(self, cls_score: Tensor, label: Tensor) -> Tensor:
        """(K + 1,) weights of this call."""
        columns = cls_score.shape[1]
        weights = self.class_weight
        if weights is None:
            weights = cls_score.new_ones(columns)
        elif len(weights) != columns:
            raise ValueError(
                f"class_weight has {len(weights)} entries, the logits have {columns} columns: one "
                "per class and one for the background"
            )
        if self.federated_classes is None:
            return weights
        return weights * _federation(label, weights, self.federated_classes)


def _softmax(
    logits: Tensor, label: Tensor, sample_weight: Tensor | None, weights: Tensor
) -> tuple[Tensor, Tensor | None]:
    is_out = weights < _ZERO
    counts = label != _IGNORED
    without_weight = counts & is_out[label.where(counts, label.new_zeros(()))]
    if sample_weight is not None:
        # A sample that weighs nothing may carry any label.
        label = label.masked_fill(without_weight & (sample_weight == 0), _IGNORED)
        without_weight = without_weight & (sample_weight != 0)
    if without_weight.any():
        raise ValueError(
            f"labels {sorted(set(label[without_weight].tolist()))} belong to classes with weight "
            "0, which training must not see: remove their boxes from the training set, or give "
            "the classes a weight"
        )
    masked = logits.masked_fill(is_out, -torch.inf)  # a copy
    losses = F.cross_entropy(masked, label, weights, reduction="none", ignore_index=_IGNORED)
    return losses, sample_weight


def _sigmoid(
    logits: Tensor, label: Tensor, sample_weight: Tensor | None, weights: Tensor
) -> tuple[Tensor, Tensor | None]:
    counts = logits.new_ones(len(logits))
    if label.ndim == 2:
        target = label.to(logits.dtype)
    else:
        counts = (label != _IGNORED).to(logits.dtype)
        valid = label.clamp(min=0)  # where it is not, the sample counts nothing
        target = F.one_hot(valid, logits.shape[1]).to(logits.dtype)
    losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weights
    if sample_weight is not None:
        counts = counts * sample_weight.to(logits.dtype)
    return losses, counts[:, None].expand_as(losses)


def _federation(label: Tensor, weights: Tensor, number: int) -> Tensor:
    """(K + 1,) 1 for the classes that count in this call, else 0; the background always does."""
    background = len(weights) - 1
    occurring = label.gt(0).any(dim=0).nonzero() if label.ndim == 2 else label[label != _IGNORED]
    candidates = weights >= _ZERO
    candidates[background] = False
    federation = torch.zeros_like(weights)
    foreground = occurring[occurring != background]
    federation[sample_common_classes(foreground, candidates, number)] = 1
    federation[background] = 1
    return federation
