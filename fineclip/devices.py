"""Which device a command computes on."""

from __future__ import annotations

import torch


def default_device() -> torch.device:
    """The accelerator of this machine, else the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


def usable_device(name: str | None, option: str = "--device") -> torch.device:
    """The device that somebody asks for, checked before anything is put on it.

    Args:
        name: Such as ``cpu``, ``cuda`` or ``cuda:1``; None: :func:`default_device`.
        option: Who asks, for the message.

    Raises:
        ValueError: torch does not know it, or this machine does not have it.
    """
    if name is None:
        return default_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    # torch's answer to a device that is not there has any of these types.
    except (RuntimeError, AssertionError, NotImplementedError, ValueError):
        raise ValueError(
            f"{option} {name}: this machine has no such device; leave the option out to compute "
            f"on {default_device()}"
        ) from None
    if device.type == "meta":
        raise ValueError(f"{option} meta: a device without memory computes nothing")
    return device


def autocast_type(name: str | None, device: torch.device) -> torch.dtype | None:
    """The number format of mixed precision that somebody asks for.

    Args:
        name: ``"bf16"``, ``"fp16"`` or None for none.
        device: Where it is to be used.

    Raises:
        ValueError: float16 on a CPU.
    """
    if name == "fp16" and device.type == "cpu":
        raise ValueError("--amp fp16 needs a GPU; use --amp bf16 on a CPU")
    return {"bf16": torch.bfloat16, "fp16": torch.float16, None: None}[name]
