"""Recognising a checkpoint's dialect and bringing it to open_clip's naming."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fineclip.checkpoints.safe import CheckpointError, read_checkpoint

# Our own pretraining checkpoints hold the pretrainer: its DenseCLIP, its open_clip model.
_PRETRAINER_PREFIX = "clip.clip."


def identify(path: str | Path) -> str:
    """Names the format of a checkpoint file.

    Returns:
        ``"fineclip"`` (mmengine checkpoint of this package's pretraining) or ``"open_clip"``.

    Raises:
        FileNotFoundError: The path does not exist.
        CheckpointError: The file cannot be read or its format is unknown.
    """
    return _identify(_state_dict(read_checkpoint(path), path), path)


def load(path: str | Path) -> dict[str, Tensor]:
    """Reads a checkpoint in any known format as an open_clip state dict.

    Raises:
        FileNotFoundError: The path does not exist.
        CheckpointError: The file cannot be read, its format is unknown, or reading it would run
            code.
    """
    state_dict = _state_dict(read_checkpoint(path), path)
    if _identify(state_dict, path) == "fineclip":
        return {
            key.removeprefix(_PRETRAINER_PREFIX): value
            for key, value in state_dict.items()
            if key.startswith(_PRETRAINER_PREFIX)
        }
    return state_dict


def load_into(model: nn.Module, path: str | Path) -> None:
    """Loads a checkpoint into an open_clip model, every key and shape matching.

    Raises:
        FileNotFoundError: The path does not exist.
        CheckpointError: As :func:`load`, or keys or shapes differ from the model's.
    """
    state_dict = load(path)
    expected = model.state_dict()
    missing = sorted(expected.keys() - state_dict.keys())
    unknown = sorted(state_dict.keys() - expected.keys())
    shapes = [
        f"{key} {tuple(state_dict[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in sorted(expected.keys() & state_dict.keys())
        if state_dict[key].shape != expected[key].shape
    ]
    problems = [
        f"{title}: {', '.join(found[:6])}{f' and {len(found) - 6} more' if len(found) > 6 else ''}"
        for title, found in (("missing", missing), ("unknown", unknown), ("shape", shapes))
        if found
    ]
    if problems:
        raise CheckpointError(f"{path} does not fit the model; {'; '.join(problems)}")
    model.load_state_dict(state_dict)


def _state_dict(checkpoint: Any, path: str | Path) -> dict[str, Tensor]:
    if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get("state_dict"), Mapping):
        checkpoint = checkpoint["state_dict"]
    if not isinstance(checkpoint, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in checkpoint.items()
    ):
        raise CheckpointError(f"{path} holds no state dict (a mapping from names to tensors)")
    if not checkpoint:
        raise CheckpointError(f"{path} holds an empty state dict")
    # DistributedDataParallel puts "module." in front of every name.
    if all(key.startswith("module.") for key in checkpoint):
        return {key.removeprefix("module."): value for key, value in checkpoint.items()}
    return dict(checkpoint)


def _identify(state_dict: Mapping[str, Tensor], path: str | Path) -> str:
    if f"{_PRETRAINER_PREFIX}logit_scale" in state_dict:
        return "fineclip"
    if "logit_scale" in state_dict and any(key.startswith("visual.") for key in state_dict):
        return "open_clip"
    raise CheckpointError(
        f"{path} is in no known format; known: open_clip (a CLIP state dict), fineclip (a "
        f"checkpoint of this package); its first keys are {', '.join(list(state_dict)[:4])}"
    )
