"""Optimizer parameter groups, fused steps, and mixed precision on any device."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import cache
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIMIZERS
from torch import nn

from fineclip.devices import default_device
from fineclip.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class CLIPOptimWrapperConstructor:
    """CLIP's two parameter groups: weights that decay, and all that do not.

    Norms, biases, class and position vectors of fewer than two dimensions and the logit scale
    are excluded from decay (open_clip's rule). mmengine's default constructor makes a group per
    parameter, which defeats fused and for-each optimizers.

    Args:
        optim_wrapper_cfg: Config of the wrapper, with its ``optimizer``.
        paramwise_cfg: Not supported; None.
    """

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict | None = None
    ) -> None:
        if paramwise_cfg:
            raise ValueError("CLIPOptimWrapperConstructor takes no paramwise_cfg")
        self.config = dict(optim_wrapper_cfg)

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Builds the optimizer over the trainable parameters and wraps it.

        Raises:
            ValueError: Nothing in the model is trainable.
        """
        config = dict(self.config)
        optimizer = dict(config.pop("optimizer"))
        optimizer["params"] = parameter_groups(model, optimizer.get("weight_decay", 0.0))
        optimizer = _with_fused(optimizer, model)
        config.setdefault("type", "OptimWrapper")
        return OPTIM_WRAPPERS.build(config, default_args={"optimizer": OPTIMIZERS.build(optimizer)})


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class FusedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor, whose optimizer takes fused steps where torch has them."""

    optimizer_cfg: dict[str, Any]

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Builds the optimizer and wraps it."""
        self.optimizer_cfg = _with_fused(self.optimizer_cfg, model)
        return super().__call__(model)


def fused_options(
    optimizer: Callable[..., torch.optim.Optimizer], parameters: Iterable[nn.Parameter]
) -> dict[str, Any]:
    """``{"fused": True}`` where torch can step all of these parameters in one kernel, else empty.

    The same formula as the plain step's, which makes a pass over the weights per operation.
    """
    devices = {parameter.device.type for parameter in parameters}
    fused = bool(devices) and all(_has_fused_step(optimizer, device) for device in devices)
    return {"fused": True} if fused else {}


@cache
def _has_fused_step(optimizer: Callable[..., torch.optim.Optimizer], device: str) -> bool:
    """Tries it: torch publishes no list of devices, and refuses at the first step only."""
    if "fused" not in inspect.signature(optimizer).parameters:
        return False
    parameter = nn.Parameter(torch.zeros(1, device=device))
    parameter.grad = torch.zeros_like(parameter)
    try:
        optimizer([parameter], fused=True).step()
    except RuntimeError:
        return False
    return True


def _with_fused(config: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """An optimizer's config with `fused_options`, unless it says itself how to step."""
    if {"fused", "foreach", "capturable", "differentiable"} & set(config):
        return config
    kind = config["type"]
    kind = OPTIMIZERS.get(kind) if isinstance(kind, str) else kind
    trained = (parameter for parameter in model.parameters() if parameter.requires_grad)
    return {**config, **(fused_options(kind, trained) if kind is not None else {})}


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Splits the trainable parameters into those that decay and those that do not.

    Raises:
        ValueError: Nothing in the model is trainable.
    """
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            words = name.split(".")
            exempt = parameter.ndim < 2 or any(
                word.startswith("ln") or "bn" in word or "bias" in word or "logit" in word
                for word in words
            )
            (plain if exempt else decay).append(parameter)
    if not decay and not plain:
        raise ValueError("no parameter is trainable; check the model's `trainable`")
    groups = [
        {"params": decay, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Mixed precision without loss scaling, on any device: the wrapper for bfloat16.

    mmengine's ``AmpOptimWrapper`` refuses to run on a CPU. float16 needs its loss scaling, so use
    that one for float16 on a GPU.

    Args:
        dtype: ``"bfloat16"``.
        device_type: ``"cuda"``, ``"cpu"``, ...; by default the current accelerator's.
        **kwargs: Passed to mmengine's ``OptimWrapper``.
    """

    def __init__(
        self, *, dtype: str = "bfloat16", device_type: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if dtype != "bfloat16":
            raise ValueError(f"dtype must be 'bfloat16' without loss scaling, got {dtype!r}")
        self.device_type = device_type or default_device().type

    def optim_context(self, model: nn.Module) -> ExitStack:
        """The forward pass under autocast, inside mmengine's own context."""
        stack = ExitStack()
        stack.enter_context(super().optim_context(model))
        stack.enter_context(torch.autocast(self.device_type, dtype=torch.bfloat16))
        return stack
