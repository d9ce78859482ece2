"""What keeps the tensors of a checkpoint from fitting a model, in one wording."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Misfit:
    """Differences between the tensors there are and those there should be; false without any.

    Attributes:
        missing: Keys that should be there.
        unknown: Keys that should not.
        shapes: (key, shape, shape expected) where they differ; letters are sizes that are not
            known.
    """

    missing: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    shapes: list[tuple[str, tuple[int, ...], tuple[int | str, ...]]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.unknown or self.shapes)

    def describe(self, limit: int | None = 6) -> str:
        """All differences in one line.

        Args:
            limit: Keys named of each kind; None: all.
        """
        shapes = [f"{key} {have} instead of {want}" for key, have, want in self.shapes]
        parts = []
        for what, keys in (
            ("missing key", self.missing),
            ("unknown key", self.unknown),
            ("wrong shape", shapes),
        ):
            if keys:
                shown = keys[:limit]
                more = f" and {len(keys) - len(shown)} more" if len(keys) > len(shown) else ""
                plural = "s" if len(keys) > 1 else ""
                parts.append(f"{len(keys)} {what}{plural}: {', '.join(shown)}{more}")
        return "; ".join(parts)


def compare(
    tensors: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    *,
    optional: Collection[str] = (),
) -> Misfit:
    """Compares keys and shapes.

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
    )
