"""The state dict in a checkpoint: out of its containers, under names without wrappers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fineclip.checkpoints.safe import CheckpointError

# Where programs put the weights beside other things; the first that is there counts.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "module", "student")
_DEPTH = 4  # containers in containers

_COMPILED = re.compile(r"(?:^|(?<=\.))_orig_mod\.")  # torch.compile, around any module
_PARALLEL = "module."  # DataParallel and DistributedDataParallel, around the whole model


def state_dict_of(checkpoint: Any, path: str | Path) -> dict[str, Tensor]:
    """The tensors of a loaded checkpoint, by names without ``module.`` and ``_orig_mod.``.

    Args:
        checkpoint: What the file holds: a state dict, bare or in a container such as ``model``.
        path: Its name for messages.

    Raises:
        CheckpointError: It holds no state dict.
    """
    tensors = raw_state_dict(checkpoint, path)
    return {name: tensors[key] for key, name in plain_names(tensors, path).items()}


def raw_state_dict(checkpoint: Any, path: str | Path) -> dict[str, Tensor]:
    """The same under the file's own names.

    Raises:
        CheckpointError: As :func:`state_dict_of`.
    """
    where = ""
    for _ in range(_DEPTH):
        if not isinstance(checkpoint, Mapping):
            break
        name = next(
            (n for n in _CONTAINERS if not isinstance(checkpoint.get(n, _NOTHING), Tensor)), None
        )
        if name is None:
            break
        checkpoint, where = checkpoint[name], f"{where}{name}: "
    if not isinstance(checkpoint, Mapping):
        raise CheckpointError(
            f"{path} holds no state dict: {where}expected a mapping from names to tensors, got "
            f"{type(checkpoint).__name__}"
        )
    if not checkpoint:
        raise CheckpointError(f"{path} holds an empty state dict")
    for key, value in checkpoint.items():
        if not isinstance(key, str):
            raise CheckpointError(
                f"{path} holds no state dict: {where}expected names of tensors, got {key!r:.80}"
            )
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized:
            kind = f"{value.layout} tensor" if isinstance(value, Tensor) else type(value).__name__
            raise CheckpointError(
                f"{path} holds no state dict: {where}{key:.80}: expected a plain tensor, got {kind}"
            )
    return dict(checkpoint)


_NOTHING = torch.empty(0)


def plain_names(keys: Iterable[str], path: str | Path) -> dict[str, str]:
    """The file's name of each tensor -> the one without what wraps models.

    Raises:
        CheckpointError: Two tensors would share a name.
    """
    names = {key: _COMPILED.sub("", key) for key in keys}
    while all(name.startswith(_PARALLEL) for name in names.values()):
        names = {key: name.removeprefix(_PARALLEL) for key, name in names.items()}
    seen: dict[str, str] = {}
    for key, name in names.items():
        if name in seen:
            raise CheckpointError(f"{path} has {name} twice: as {seen[name]} and as {key}")
        seen[name] = key
    return names


def as_mmengine_reads(checkpoint: Any, path: str | Path) -> Any:
    """The checkpoint with its weights, and nothing but them, where mmengine looks for them.

    Raises:
        CheckpointError: As :func:`state_dict_of`.
    """
    tensors = state_dict_of(checkpoint, path)
    found = checkpoint.get("state_dict")
    if isinstance(found, Mapping) and found.keys() == tensors.keys():
        return checkpoint
    others = {} if all(isinstance(v, Tensor) for v in checkpoint.values()) else checkpoint
    return {**others, "state_dict": tensors}
