"""Models of transformers, by name or folder: nothing that comes with them is run or unpickled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from fineclip.devices import autocast_type, usable_device
from fineclip.models.class_embedding_files import weights_identity

_SAFE: dict[str, Any] = {"trust_remote_code": False}


class ComputeOptions:
    """Where a model of the data engine computes, and in which precision.

    Args:
        device: Such as ``cpu`` or ``cuda:1``; None: the accelerator if there is one.
        amp: ``"bf16"``, ``"fp16"`` or None for float32.

    Attributes:
        device: The device.
        dtype: Of mixed precision, None without.

    Raises:
        ValueError: This machine has no such device, or ``amp`` does not fit it.
    """

    def __init__(self, device: str | None, amp: str | None) -> None:
        self.device = usable_device(device, "device")
        if amp not in ("bf16", "fp16", None):
            raise ValueError(f"amp: expected bf16, fp16 or None, got {amp!r}")
        self.dtype = autocast_type(amp, self.device)

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision, or nothing without it."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None)


def require_name(argument: str, kind: str) -> str:
    """The model that is named behind a kind.

    Raises:
        ValueError: None is.
    """
    if not argument.strip():
        raise ValueError(f"{kind}: a model is missing; write {kind}:NAME or {kind}:FOLDER")
    return argument.strip()


def load_config(name: str) -> Any:
    """The configuration of a model.

    Args:
        name: Of a model on the Hub, or a folder.

    Raises:
        ValueError: There is no such model, or it is of a kind that transformers does not know.
    """
    from transformers import AutoConfig  # an optional library, and seconds to load

    return _explained(name, lambda: AutoConfig.from_pretrained(name, **_SAFE))


def load_processor(kind: Any, name: str) -> Any:
    """What makes a model's input: an ``Auto...`` class of transformers by the model's name.

    Raises:
        ValueError: It cannot be loaded.
    """
    return _explained(name, lambda: kind.from_pretrained(name, **_SAFE))


def load_model(
    kind: Any, name: str, device: torch.device, dtype: torch.dtype = torch.float32
) -> Any:
    """A model for use, from safetensors files alone.

    Args:
        kind: An ``Auto...`` class of transformers.
        name: Of a model on the Hub, or a folder.
        device: Where it goes.
        dtype: Of its weights.

    Raises:
        ValueError: It cannot be loaded, or comes as pickles alone.
    """
    options = {**_SAFE, "use_safetensors": True, "dtype": dtype}
    model = _explained(name, lambda: kind.from_pretrained(name, **options))
    return model.to(device).eval().requires_grad_(False)


def identity_of(name: str, config: Any) -> str:
    """What decides a model's weights: the name and commit on the Hub, or a folder's content."""
    if Path(name).is_dir():
        return f"{Path(name).name}@{weights_identity('', name)}"
    return f"{name}@{getattr(config, '_commit_hash', None) or 'unknown revision'}"


def _explained(name: str, load: Callable[[], Any]) -> Any:
    """What is loaded, with the library's refusals in one line."""
    try:
        return load()
    # Everything that files which are not as they should be lead to, and refusals of a network.
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError) as error:
        text = " ".join(str(error).split())
        if "trust_remote_code" in text:
            text = "it needs code of its own (trust_remote_code), which is never run here"
        elif "safetensors" in text or "pytorch_model.bin" in text:
            text = (
                "it has no model.safetensors, and pickles are never loaded; convert it where you "
                "trust its origin (save_pretrained writes safetensors)"
            )
        raise ValueError(f"model {name}: {text:.400}") from None
