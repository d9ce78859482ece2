"""What proposers have in common: vocabularies, images of one size, boxes within their image."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fineclip.annotation.interfaces import Proposals
from fineclip.checks import real
from fineclip.text import Vocabulary, as_vocabulary

Item = TypeVar("Item")
Result = TypeVar("Result")
Words = str | Path | Vocabulary | Mapping[str, Any] | Sequence[Any]
"""A vocabulary as a configuration writes it."""

SCORE_THRESHOLD = 0.05
"""Boxes below it are not handed on; what cleans them has a threshold of its own."""


def checked_threshold(value: float) -> float:
    """A score from which on boxes are handed on.

    Raises:
        ValueError: It is no number from -1 to 1; SAM's predictions of quality may be negative.
    """
    real(-1, 1).require(value, "score_threshold")
    return value


def no_proposals() -> Proposals:
    """Of an image in which nothing is found."""
    return Proposals(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), (), ())


def found_in(
    image: Image.Image,
    boxes: Tensor | np.ndarray | Sequence[Sequence[float]],
    scores: Tensor | np.ndarray | Sequence[float],
    names: Sequence[str],
) -> Proposals:
    """Proposals of what a model has found, best first.

    Boxes are cut to the image; those without any area in it, and what is not finite, are left out.

    Args:
        image: Where they are found.
        boxes: (n, 4) xyxy in its pixels.
        scores: (n,), cut to [0, 1].
        names: n names of categories.
    """
    found = _as_array(boxes).reshape(-1, 4)
    certain = _as_array(scores).reshape(-1).clip(0, 1)
    limits = np.array([*image.size, *image.size], np.float32)
    finite = np.isfinite(found).all(axis=1) & np.isfinite(certain)
    found = np.where(finite[:, None], found, 0).clip(0, limits)
    useful = finite & (found[:, 2:] > found[:, :2]).all(axis=1)
    kept = np.flatnonzero(useful)
    # A stable sort: equal scores stay in the model's order.
    kept = kept[np.argsort(-certain[kept], kind="stable")]
    named = tuple(names[place] for place in kept.tolist())
    return Proposals(found[kept], certain[kept], named, (None,) * len(kept))


def by_group(
    items: Sequence[Item],
    group: Callable[[Item], Hashable],
    run: Callable[[list[Item]], Sequence[Result]],
) -> list[Result]:
    """Runs items of one group together, so that nothing is padded to another's size.

    A model's result of an image then does not depend on the images beside it.

    Args:
        items: Such as images.
        group: What those that run together have in common.
        run: Makes a result of each of some items.

    Returns:
        One result per item, in their order.
    """
    places: dict[Hashable, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(group(item), []).append(place)
    results: dict[int, Result] = {}
    for together in places.values():
        done = run([items[place] for place in together])
        results.update(zip(together, done, strict=True))
    return [results[place] for place in range(len(items))]


def as_rgb(images: Sequence[Image.Image | None]) -> list[Image.Image]:
    """The images in RGB; whoever needs images is given no None."""
    given = [image for image in images if image is not None]
    return [image if image.mode == "RGB" else image.convert("RGB") for image in given]


def looked_for(vocabulary: Words | None, kind: str) -> Vocabulary:
    """The words that a proposer looks for.

    Raises:
        ValueError: There are none, or they are malformed.
    """
    if vocabulary is None:
        raise ValueError(f"proposer {kind}: it looks for words, so it needs a vocabulary")
    return as_vocabulary(vocabulary)


def _as_array(values: Tensor | np.ndarray | Sequence[Any]) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().to("cpu", torch.float32).numpy()
    return np.asarray(values, np.float32)
