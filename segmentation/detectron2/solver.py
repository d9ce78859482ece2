"""The optimiser of a detectron2 configuration, with CLIP's own learning rate."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

from fineclip.engine.optim import fused_options
from segmentation.modeling.finetune import parameter_groups


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Makes the optimiser of everything that is trained.

    Args:
        cfg: ``SOLVER``: ``OPTIMIZER`` "ADAMW" or "SGD", ``BASE_LR``, ``CLIP_MULTIPLIER``,
            ``WEIGHT_DECAY`` with its exceptions ``WEIGHT_DECAY_NORM`` and ``WEIGHT_DECAY_EMBED``;
            ``CLIP_GRADIENTS``, whose type "full_model" bounds one norm over all gradients.
        model: The segmenter.

    Raises:
        ValueError: Unknown optimiser.
    """
    solver = cfg.SOLVER
    groups = parameter_groups(
        model,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        clip_multiplier=solver.CLIP_MULTIPLIER,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        weight_decay_embed=solver.WEIGHT_DECAY_EMBED,
    )
    for group in groups:
        del group["names"]
    kind = solver.OPTIMIZER.upper()
    options: dict[str, Any] = {"params": groups, "lr": solver.BASE_LR}
    optimizer_class: type[torch.optim.Optimizer]
    if kind == "ADAMW":
        optimizer_class = torch.optim.AdamW
    elif kind == "SGD":
        optimizer_class = torch.optim.SGD
        options["momentum"] = solver.MOMENTUM
    else:
        raise ValueError(f"SOLVER.OPTIMIZER is {solver.OPTIMIZER!r}; known: ADAMW, SGD")
    trained = itertools.chain.from_iterable(group["params"] for group in groups)
    options |= fused_options(optimizer_class, trained)
    clipping = solver.CLIP_GRADIENTS
    if clipping.ENABLED and clipping.CLIP_TYPE == "full_model":
        # An infinite bound would cost a pass over the gradients for nothing.
        if clipping.CLIP_VALUE > 0:
            optimizer_class = _clipping_all(optimizer_class, clipping.CLIP_VALUE)
    else:
        optimizer_class = maybe_add_gradient_clipping(cfg, optimizer_class)
    return optimizer_class(**options)


def _clipping_all(
    base: type[torch.optim.Optimizer], max_norm: float
) -> type[torch.optim.Optimizer]:
    """An optimiser that clips the norm of all gradients together before each step."""

    class FullModelGradientClipping(base):  # type: ignore[valid-type, misc]
        def step(self, closure=None):
            parameters = itertools.chain(*(group["params"] for group in self.param_groups))
            torch.nn.utils.clip_grad_norm_(list(parameters), max_norm)
            return super().step(closure=closure)

    return FullModelGradientClipping
