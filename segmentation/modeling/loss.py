"""CAT-Seg's training loss, over all classes or over some that are chosen for the step.

Both are of the batch of all processes, however its labelled pixels are spread over them.

Letters: B images, T classes, K training classes, (H, W) pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.parallel import mean_over_processes, sample_common_classes, world_size


def class_loss(
    logits: Tensor, target: Tensor, *, ignore_value: int, ignored_as_negatives: bool = True
) -> Tensor:
    """Mean sigmoid cross-entropy over pixels and classes.

    With x the logits and y the one-hot target, the terms are ``softplus(x) - x y``: only one logit
    per pixel meets a target of one, so no one-hot tensor is made.

    Args:
        logits: (B, T, H, W).
        target: (B, H, W) int64 class indices, or the ignore value.
        ignore_value: Pixels of this label have no class.
        ignored_as_negatives: They count with targets of zero for every class. False: they count
            not at all.

    Returns:
        () the loss; zero where no pixel counts. On several processes the share of this one, the
        mean of which over processes is the loss.

    Raises:
        ValueError: A label that is neither a class nor the ignore value.
    """
    classes = logits.shape[1]
    valid = target != ignore_value
    _check_labels(target[valid], classes, ignore_value)
    logits = logits.float()
    picked = logits.gather(1, target.where(valid, 0)[:, None])[:, 0]
    positive = (picked * valid).sum()
    negative, pixels = F.softplus(logits), torch.tensor(target.numel(), device=target.device)
    if not ignored_as_negatives:
        negative, pixels = negative * valid[:, None], valid.sum()
    count = mean_over_processes(pixels * classes).clamp(min=1 / world_size())
    return (negative.sum() - positive) / count


def choose_classes(
    labels: Sequence[Tensor], num_classes: int, number: int, *, ignore_value: int
) -> tuple[list[int], list[Tensor]]:
    """Chooses classes to train with: all that occur in any process, and others at random.

    Chance is drawn from the labels themselves: all processes choose the same, and so does a resumed
    training.

    Args:
        labels: (H, W) int64 each, of this process.
        num_classes: K.
        number: How many to choose; more where more occur.
        ignore_value: Label of pixels without a class.

    Returns:
        Indices of the chosen classes, ascending, and the labels as places among them.

    Raises:
        ValueError: A label that is neither a class nor the ignore value, or an ignore value that is
            a class.
    """
    if 0 <= ignore_value < num_classes:
        raise ValueError(
            f"the ignore value {ignore_value} is one of the {num_classes} classes: it must not be "
            "where some of them are chosen for a step"
        )
    flat = torch.cat([label.flatten() for label in labels])
    flat = flat[flat != ignore_value]
    _check_labels(flat, num_classes, ignore_value)
    chosen = sample_common_classes(flat, num_classes, number).sort().values.cpu()
    places = torch.zeros(num_classes, dtype=torch.int64)
    places[chosen] = torch.arange(len(chosen))
    mapped = []
    for label in labels:
        known = label != ignore_value
        mapped.append(places.to(label.device)[label.where(known, 0)].where(known, ignore_value))
    return chosen.tolist(), mapped


def _check_labels(labels: Tensor, classes: int, ignore_value: int) -> None:
    """Labels that are not ignored must be classes."""
    if wrong := labels[(labels < 0) | (labels >= classes)].unique().tolist():
        raise ValueError(
            f"labels {wrong[:6]} are neither one of the {classes} classes (0 to {classes - 1}) nor "
            f"the ignore value {ignore_value}"
        )
