"""Mixing of trained weights with those they were trained from."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fineclip.checkpoints.compare import Misfit, compare
from fineclip.checkpoints.safe import CheckpointError
from fineclip.checkpoints.source import Source


def mix_with(source: Source, start: Source, alpha: float) -> None:
    """Replaces a source's CLIP by ``alpha`` x itself + ``1 - alpha`` x start weights.

    WiSE-FT (Wortsman et al., CVPR 2022). Computed in float32 and kept in the source's precision.
    A tower alone is mixed with that of a whole CLIP; nothing outside the CLIP is touched.

    Args:
        source: The trained weights; changed.
        start: What they were trained from.
        alpha: Share of ``source``.

    Raises:
        ValueError: ``alpha`` is no share.
        CheckpointError: The two are not of one architecture.
    """
    _check_share(alpha)
    # A causal mask, where a file has it, holds infinities and is no weight.
    mixable = {
        key
        for key, value in source.clip.items()
        if value.is_floating_point() and not key.endswith("attn_mask")
    }
    misfit = Misfit(
        missing=sorted(mixable - start.clip.keys()),
        shapes=[
            (key, tuple(start.clip[key].shape), tuple(source.clip[key].shape))
            for key in sorted(mixable & start.clip.keys())
            if start.clip[key].shape != source.clip[key].shape
        ],
    )
    if misfit:
        raise CheckpointError(
            f"{start.path} is no start of {source.path}, of another architecture or image size: "
            f"{misfit.describe()}"
        )
    for key in mixable:
        source.clip[key] = _mixed(start.clip[key], source.clip[key], alpha)
    source.notes.append(f"mixed: {alpha} x this file + {1 - alpha:.6g} x {start.path}")


def mixed_tensors(
    trained: Mapping[str, Tensor], start: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """``alpha`` x trained + ``1 - alpha`` x start, of whole models of one architecture.

    Args:
        trained: By name.
        start: What they were trained from, by the same names.
        alpha: Share of ``trained``.

    Returns:
        By name; what is no floating-point number is that of ``trained``.

    Raises:
        ValueError: ``alpha`` is no share.
        CheckpointError: The two differ in a name or shape.
    """
    _check_share(alpha)
    if misfit := compare(trained, start):
        raise CheckpointError(f"start and trained weights differ: {misfit.describe()}")
    return {
        key: _mixed(start[key], value, alpha) if value.is_floating_point() else value
        for key, value in trained.items()
    }


def _mixed(start: Tensor, trained: Tensor, alpha: float) -> Tensor:
    return start.float().lerp(trained.float(), alpha).to(trained.dtype)


def _check_share(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be from 0 to 1, got {alpha}")
