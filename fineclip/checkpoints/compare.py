"""What keeps the tensors of a checkpoint from fitting a model, in one wording."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor

from fineclip.checkpoints.safe import CheckpointError

NAMED = 6  # keys of a kind that a message names


@dataclass(frozen=True)
class Misfit:
    """Differences between the tensors there are and those there should be; false without any.

    Attributes:
        missing: Keys that should be there.
        unknown: Keys that should not.
        shapes: (key, shape, shape expected) where they differ; letters are sizes that are not
            known.
        types: (key, type, type expected) where one is of integers and the other is not.
    """

    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    shapes: list[tuple[str, tuple[int, ...], tuple[int | str, ...]]] = field(default_factory=list)
    types: list[tuple[str, torch.dtype, torch.dtype]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unknown or self.shapes or self.types)

    def tolerating(self, patterns: Collection[str]) -> Misfit:
        """The same without missing and unknown keys that match one of the patterns."""

        def kept(keys: list[str]) -> list[str]:
            return [k for k in keys if not any(fnmatchcase(k, pattern) for pattern in patterns)]

        return Misfit(kept(self.missing), kept(self.unknown), self.shapes, self.types)

    def renamed(self, name: Callable[[str], str]) -> Misfit:
        """The same with each key under another name."""
        return Misfit(
            [name(key) for key in self.missing],
            [name(key) for key in self.unknown],
            [(name(key), have, want) for key, have, want in self.shapes],
            [(name(key), have, want) for key, have, want in self.types],
        )

    def describe(self, limit: int | None = NAMED) -> str:
        """All differences in one line.

        Args:
            limit: Keys named of each kind; None: all.
        """
        shapes = [f"{key} {have} instead of {want}" for key, have, want in self.shapes]
        types = [f"{key} {have} instead of {want}" for key, have, want in self.types]
        parts = []
        for what, keys in (
            ("missing key", self.missing),
            ("unknown key", self.unknown),
            ("wrong shape", shapes),
            ("wrong type", types),
        ):
            if keys:
                plural = "s" if len(keys) > 1 else ""
                parts.append(f"{len(keys)} {what}{plural}: {listed(keys, limit)}")
        return "; ".join(parts)


def listed(keys: Collection[str], limit: int | None = NAMED) -> str:
    """The first keys, and how many there are beyond them."""
    shown = list(keys)[:limit]
    more = f" and {len(keys) - len(shown)} more" if len(keys) > len(shown) else ""
    return f"{', '.join(shown)}{more}"


def compare(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    *,
    optional: Collection[str] = (),
) -> Misfit:
    """Compares keys, shapes, and whether values are integers.

    Args:
        tensors: What a file holds.
        expected: What a model holds.
        optional: Keys that may be missing.

    Returns:
        The differences, sorted by key.
    """
    return Misfit(
        missing=sorted(expected.keys() - tensors.keys() - set(optional)),
        unknown=sorted(tensors.keys() - expected.keys()),
        shapes=[
            (key, tuple(tensors[key].shape), tuple(expected[key].shape))
            for key in sorted(expected.keys() & tensors.keys())
            if tensors[key].shape != expected[key].shape
        ],
        types=[
            (key, tensors[key].dtype, expected[key].dtype)
            for key in sorted(expected.keys() & tensors.keys())
            if tensors[key].is_floating_point() != expected[key].is_floating_point()
        ],
    )


def check_finite(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Refuses weights that a training has lost.

    Raises:
        CheckpointError: Some values are NaN or infinite.
    """
    if keys := nonfinite(tensors):
        raise CheckpointError(
            f"{path} has NaN or infinite values in {len(keys)} of {len(tensors)} tensors: "
            f"{listed(keys)}; such weights compute nothing: take an earlier checkpoint"
        )


def nonfinite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Keys of tensors with NaN or infinite values."""
    return [key for key, value in tensors.items() if not _is_finite(value)]


def _is_finite(value: Tensor) -> bool:
    if value.is_meta or not value.is_floating_point():
        return True
    if value.dtype.itemsize == 1:  # eight bits are for storing: torch computes nothing with them
        value = value.float()
    # Without a mask of the tensor's size; only a sum that overflows needs a closer look.
    return bool(value.sum(dtype=torch.float32).isfinite() or value.isfinite().all())
