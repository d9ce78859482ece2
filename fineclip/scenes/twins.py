"""Near-twins among the validation scenes: two pictures that differ in one thing.

Without them, naming an object or two finds a caption's picture; with them, retrieval needs the
attributes, places and surfaces as well, since both captions of a picture are false for its twin.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from fineclip.scenes.categories import COLORS, STUFF_CATEGORIES, THING_CATEGORIES
from fineclip.scenes.shapes import SHAPES, TEXTURES
from fineclip.scenes.world import (
    ROTATIONS,
    SIZES,
    Scene,
    SceneObject,
    is_arrangement,
    pattern_period,
    sample_colors,
    sample_scene,
    true_relations,
)

DIFFERENCES = ("color", "shape", "texture", "size", "relation", "background")
"""Kinds of differences, equally often tried first."""

_TRIES = 10
Choice = TypeVar("Choice")


@dataclass(frozen=True)
class SceneDifference:
    """In what a scene and its twin differ.

    Attributes:
        kind: One of `DIFFERENCES`.
        objects: Positions in ``scene.objects`` of the object concerned, of the two that have
            exchanged places, or none if it is the background.
    """

    kind: str
    objects: tuple[int, ...]


def _choose(rng: np.random.Generator, values: Sequence[Choice]) -> Choice:
    return values[int(rng.integers(len(values)))]


def _changed(item: SceneObject, kind: str, rng: np.random.Generator) -> SceneObject:
    """An object with another colour, shape, texture or size."""
    if kind == "texture":
        texture = _choose(rng, [t for t in TEXTURES if t != item.texture])
        period = pattern_period(item.side, texture)
        return replace(item, texture=texture, pattern_period=period)
    if kind == "size":
        size = _choose(rng, [s for s in SIZES if s != item.size])
        side = float(rng.uniform(*SIZES[size]))
        period = pattern_period(side, item.texture)
        return replace(item, size=size, side=side, pattern_period=period)
    color, shape = item.category.color, item.category.shape
    if kind == "color":
        color = _choose(rng, [c for c in COLORS if c != color])
        rgb, pattern_rgb = sample_colors(rng, color)
        item = replace(item, rgb=rgb, pattern_rgb=pattern_rgb)
    else:
        shape = _choose(rng, [s for s in SHAPES if s != shape])
        limit = ROTATIONS.get(shape, 0.0)  # a square that is turned too far is a diamond
        item = replace(item, angle=min(max(item.angle, -limit), limit))
    (category,) = (c for c in THING_CATEGORIES if (c.color, c.shape) == (color, shape))
    return replace(item, category=category)


def _other_background(scene: Scene, rng: np.random.Generator) -> Scene:
    surfaces = list(scene.background.surfaces)
    number = int(rng.integers(len(surfaces)))
    old = surfaces[number]
    others = [c for c in STUFF_CATEGORIES if c.kind == old.kind and c != old]
    surfaces[number] = _choose(rng, others)
    return replace(scene, background=replace(scene.background, surfaces=tuple(surfaces)))


def _try_twin(
    scene: Scene, kind: str, rng: np.random.Generator
) -> tuple[Scene, SceneDifference] | None:
    """One draw of a twin; None if it is no scene, or if captions could not tell the two apart."""
    if kind == "background":
        return _other_background(scene, rng), SceneDifference(kind, ())
    objects = list(scene.objects)
    counts = Counter(item.category for item in objects)
    first, second = (int(i) for i in rng.permutation(len(objects))[:2])
    chosen = (first, second) if kind == "relation" else (first,)
    # A caption of one of two red rings might be true of the other one.
    if any(counts[objects[number].category] > 1 for number in chosen):
        return None
    if kind == "relation":
        if not true_relations(objects[first], objects[second]):
            return None
        centers = objects[second].center, objects[first].center
        objects[first] = replace(objects[first], center=centers[0])
        objects[second] = replace(objects[second], center=centers[1])
    else:
        objects[first] = _changed(objects[first], kind, rng)
        if kind in ("color", "shape") and objects[first].category in counts:
            return None
    if not is_arrangement(objects):
        return None
    return replace(scene, objects=tuple(objects)), SceneDifference(kind, chosen)


def _twin(scene: Scene, rng: np.random.Generator) -> tuple[Scene, SceneDifference]:
    kinds = [DIFFERENCES[i] for i in rng.permutation(len(DIFFERENCES))]
    tries = (_try_twin(scene, kind, rng) for kind in kinds for _ in range(_TRIES))
    return next(found for found in tries if found)  # another background is always possible


def validation_scene(seed: int, index: int, twins: float) -> tuple[Scene, SceneDifference | None]:
    """A validation scene, which may be one of two near-twins.

    Scenes 2k and 2k + 1 are twins with probability ``twins``, whatever the other scenes are. They
    have everything in common but one thing, pixel noise and the grain of the surfaces; scene 2k
    is the same with and without a twin.

    Args:
        seed: Seed of the world, at least 0.
        index: Number of the scene in the split, from 0.
        twins: Probability of a pair, in [0, 1].

    Returns:
        The scene, and in what it differs from its twin; None without a twin.
    """
    first = index - index % 2
    scene = sample_scene(seed, "val", first)
    rng = scene.generator(5)
    if rng.uniform() >= twins:
        return sample_scene(seed, "val", index), None
    twin, difference = _twin(scene, rng)
    return (scene if index == first else replace(twin, index=index)), difference
