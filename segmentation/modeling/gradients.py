"""Gradients for parameters that a result does not depend on."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def connected(output: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor:
    """``output``, with a gradient of zero for parameters that it does not depend on.

    A trained parameter without gradient stops DistributedDataParallel; with zero it is merely
    decayed, as in the release.

    Args:
        output: Any tensor.
        parameters: Those that do not occur in it; frozen ones are passed over.

    Returns:
        The same values.
    """
    if not torch.is_grad_enabled():
        return output
    for parameter in parameters:
        if parameter.requires_grad:
            output = output + 0 * parameter.sum()
    return output
