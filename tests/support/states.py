"""Comparing what checkpoints hold, bit by bit."""

from collections.abc import Mapping
from typing import Any

import torch


def differences(left: Any, right: Any, where: str = "") -> list[str]:
    """Places at which two nests of dicts, lists, tensors and plain values are not equal."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        found = [f"{where}.{key}" for key in left.keys() ^ right.keys()]
        for key in left.keys() & right.keys():
            found += differences(left[key], right[key], f"{where}.{key}")
        return found
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        if len(left) != len(right):
            return [where]
        pairs = zip(left, right, strict=True)
        return [d for i, pair in enumerate(pairs) for d in differences(*pair, f"{where}.{i}")]
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        same = left.dtype == right.dtype and left.shape == right.shape and torch.equal(left, right)
    else:
        same = type(left) is type(right) and left == right
    return [] if same else [where]
