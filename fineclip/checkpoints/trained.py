"""Loading whole models from checkpoints of their training, where nothing may be left over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from fineclip.checkpoints import fvit
from fineclip.checkpoints.compare import Misfit, check_finite, compare
from fineclip.checkpoints.conversion import convert_source
from fineclip.checkpoints.safe import CheckpointError
from fineclip.checkpoints.source import PUBLISHED_ONLY, describe_kind, source_from
from fineclip.checkpoints.state_dict import state_dict_of

# What may be missing or left over, by patterns of names. All else has to fit; what a model
# rebuilds (a frozen teacher, normalisation of pixels) is in no state dict to begin with.
ALWAYS = (
    "*.num_batches_tracked",  # a counter that nothing reads
    f"{PUBLISHED_ONLY}.*",  # what a release saves and nothing reads, kept by a conversion
)
# Where weights only start another training, or are tested: what belongs to the method.
OF_THE_METHOD = ("clip.clip.logit_bias", "objectives.*", "prototype_head.*", "ema_teacher.*")


def load_trained(
    model: nn.Module, checkpoint: Any, path: str | Path, *, resume: bool = False
) -> None:
    """Loads a whole model: a pretrainer, or a detector (the release's naming included).

    Args:
        model: Filled in place.
        checkpoint: What the file holds.
        path: Its name for messages.
        resume: Its training goes on: what belongs to its method has to be there as well.

    Raises:
        CheckpointError: It holds no state dict, another model's, or values that are not finite.
    """
    tensors = state_dict_of(checkpoint, path)
    if f"{fvit.PREFIX}visual.cls_token" in tensors:
        tensors = convert_source(source_from(tensors, path), to="fvit").tensors
    check_finite(tensors, path)
    expected = model.state_dict()
    try:
        # torch's own rules, with what modules change of a state dict that is loaded into them.
        missing, unknown = model.load_state_dict(tensors, strict=False)
        misfit = Misfit(list(missing), list(unknown), types=compare(tensors, expected).types)
    except ValueError as error:  # a module's own
        raise CheckpointError(f"{path}: {error}") from error
    except RuntimeError as error:  # of the shapes
        misfit = compare(tensors, expected)
        if not misfit:
            raise CheckpointError(f"{path}: {' '.join(str(error).split())}") from error
    if misfit := misfit.tolerating(ALWAYS if resume else ALWAYS + OF_THE_METHOD):
        kind, is_clip = describe_kind(tensors, path)
        hint = "; the weights of a CLIP are named as pretrained" if is_clip else ""
        raise CheckpointError(
            f"{path} ({kind}) does not fit the {type(model).__name__}; {misfit.describe()}{hint}"
        )


def check_progress(checkpoint: Any, path: str | Path, max_epochs: float) -> None:
    """Refuses to resume from what does not say how far its training was.

    Args:
        checkpoint: What the file holds.
        path: Its name for messages.
        max_epochs: Of the training; at its end nothing needs the optimizer's state any more.

    Raises:
        CheckpointError: It holds weights alone, or progress of another type.
    """
    meta = checkpoint.get("meta") if isinstance(checkpoint, Mapping) else None
    if not isinstance(meta, Mapping):
        raise CheckpointError(
            f"{path} cannot be resumed: it does not say how far its training was (meta); to start "
            "from its weights name it as load_from"
        )
    for key in ("epoch", "iter"):
        value = meta.get(key)
        if not isinstance(value, int) or value < 0:
            raise CheckpointError(
                f"{path}: meta.{key}: expected a number from 0 on, got {value!r:.80}"
            )
    finished = "optimizer" not in checkpoint and meta["epoch"] >= max_epochs
    for key in ("message_hub",) if finished else ("message_hub", "optimizer"):
        if not isinstance(checkpoint.get(key), Mapping):
            raise CheckpointError(
                f"{path}: {key}: expected a mapping, got {type(checkpoint.get(key)).__name__}; "
                "to start from its weights name it as load_from"
            )
