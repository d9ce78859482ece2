"""Layouts: the keys a checkpoint must hold, with their shapes in letters.

A layout maps key templates to shapes, such as ``"blocks.{i}.norm.weight": ("C",)``. ``{i}`` counts
from 0 to the largest index found under the same prefix, and a later template may give one of its
keys another shape; a template ending in ``?`` may be absent.
A dimension is a number, a letter, or a sum or product of both (``"3*W"``, ``"C+G"``). Letters take
their values from the tensors, so architectures need no names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from fineclip.checkpoints.compare import Misfit

Shape = tuple[int | str, ...]
Layout = dict[str, Shape]


def fit(layout: Layout, tensors: Mapping[str, Tensor]) -> tuple[dict[str, int], Misfit]:
    """Compares tensors with a layout.

    Returns:
        Values of the letters, and the differences.
    """
    expected, optional = _expand(layout, tensors)
    present = {key: shape for key, shape in expected.items() if key in tensors}
    dims: dict[str, int] = {}
    for key, shape in present.items():
        actual = tensors[key].shape
        if len(actual) == len(shape):
            for letter, size in zip(shape, actual, strict=True):
                if isinstance(letter, str) and letter.isidentifier():
                    dims.setdefault(letter, size)
    wanted = {key: tuple(_evaluate(dim, dims) for dim in shape) for key, shape in present.items()}
    misfit = Misfit(
        missing=[key for key in expected if key not in tensors and key not in optional],
        unknown=[key for key in tensors if key not in expected],
        shapes=[
            (key, tuple(tensors[key].shape), shape)
            for key, shape in wanted.items()
            if tuple(tensors[key].shape) != shape
        ],
    )
    return dims, misfit


def count(prefix: str, keys: Iterable[str]) -> int:
    """One more than the largest index that directly follows a prefix."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    found = [int(match[1]) for key in keys if (match := pattern.match(key))]
    return max(found, default=-1) + 1


def _expand(layout: Layout, keys: Iterable[str]) -> tuple[dict[str, Shape], set[str]]:
    keys = list(keys)
    counts: dict[str, int] = {}
    expected, optional = {}, set()
    for template, shape in layout.items():
        name = template.removesuffix("?")
        prefix, index, _ = name.partition("{i}")
        if not index:
            names = [name]
        else:
            if prefix not in counts:
                # At least one, so that a stack that is absent altogether is missed.
                counts[prefix] = max(1, count(prefix, keys))
            names = [name.replace("{i}", str(i)) for i in range(counts[prefix])]
        expected.update(dict.fromkeys(names, shape))
        if template.endswith("?"):
            optional.update(names)
    return expected, optional


def _evaluate(dim: int | str, dims: Mapping[str, int]) -> int | str:
    """The value of a dimension, or its text where a letter has none."""
    if isinstance(dim, int):
        return dim
    total = 0
    for term in dim.split("+"):
        product = 1
        for factor in term.split("*"):
            value = int(factor) if factor.isdigit() else dims.get(factor)
            if value is None:
                return dim
            product *= value
        total += product
    return total


# The pieces layouts are made of.


def linear(name: str, out: int | str, inp: int | str, bias: bool = True) -> Layout:
    """``nn.Linear``."""
    return {f"{name}.weight": (out, inp), **({f"{name}.bias": (out,)} if bias else {})}


def conv(name: str, out: int | str, inp: int | str, kernel: int | str, bias: bool = True) -> Layout:
    """``nn.Conv2d`` with a square kernel."""
    weight = {f"{name}.weight": (out, inp, kernel, kernel)}
    return {**weight, **({f"{name}.bias": (out,)} if bias else {})}


def conv_transpose(name: str, inp: int | str, out: int | str, kernel: int | str) -> Layout:
    """``nn.ConvTranspose2d`` with a square kernel."""
    return {f"{name}.weight": (inp, out, kernel, kernel), f"{name}.bias": (out,)}


def norm(name: str, width: int | str) -> Layout:
    """``nn.LayerNorm`` or ``nn.GroupNorm``."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def batch_norm(name: str, width: int | str) -> Layout:
    """``nn.BatchNorm2d``."""
    return {
        **norm(name, width),
        f"{name}.running_mean": (width,),
        f"{name}.running_var": (width,),
        f"{name}.num_batches_tracked?": (),
    }


def prefixed(prefix: str, layout: Layout) -> Layout:
    """A layout with a prefix before every key."""
    return {f"{prefix}{key}": shape for key, shape in layout.items()}
