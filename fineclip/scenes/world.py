"""What a scene consists of, and how scenes are drawn at random.

A scene is described without pixels: positions and lengths are fractions of the image side, origin
at the top left corner, x to the right, y down. `render_scene` turns it into pixels of any size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from fineclip.scenes.categories import (
    COLORS,
    STUFF_CATEGORIES,
    THING_CATEGORIES,
    StuffCategory,
    ThingCategory,
)
from fineclip.scenes.shapes import TEXTURES, signed_distance

SPLITS = ("train", "val", "test")
"""Names of the splits; each has its own stream of random numbers."""

SIZES: dict[str, tuple[float, float]] = {
    "small": (0.17, 0.21),
    "medium": (0.25, 0.30),
    "large": (0.35, 0.40),
}
"""Size words and the range of an object's side, as fractions of the image side."""

RELATION_MARGIN = 0.12
"""Distance between two centres (fraction of the image side) from which a relation is stated."""

RGB = tuple[int, int, int]
Value = TypeVar("Value")

_NUM_OBJECTS = {2: 0.2, 3: 0.3, 4: 0.3, 5: 0.2}
_SIZE_PROBABILITIES = (0.35, 0.4, 0.25)
_REPEAT_PROBABILITY = 0.03
_MAX_BOX_OVERLAP = 0.35  # intersection over the smaller box
_MIN_VISIBLE = 0.75  # measured on a coarse grid; leaves room for rounding above 0.7
_COARSE = 64
_TRIES = 30
# Rotations keep a square a square and a cross a plus sign: half-ranges in radians.
ROTATIONS = {
    "square": 0.26,
    "triangle": 0.35,
    "cross": 0.26,
    "star": 0.3,
    "crescent": 0.5,
    "heart": 0.4,
    "arrow": 0.4,
    "hourglass": 0.4,
}


@dataclass(frozen=True)
class SceneObject:
    """One thing in a scene.

    Attributes:
        category: What it is.
        texture: Surface pattern, one of `TEXTURES`.
        size: Size word, a key of `SIZES`.
        center: (x, y) as fractions of the image.
        side: Side of the box around the unrotated shape, as a fraction of the image side.
        angle: Clockwise rotation in radians.
        rgb: Main colour, 8-bit, jitter and lighting included.
        pattern_rgb: Second colour of the pattern, 8-bit.
        pattern_angle: Direction of the pattern in radians.
        pattern_period: Period of the pattern as a fraction of the image side.
        pattern_phase: Shift of the pattern as a fraction of its period.
        shade: Change of brightness per side of the object, to the right and downwards.
    """

    category: ThingCategory
    texture: str
    size: str
    center: tuple[float, float]
    side: float
    angle: float
    rgb: RGB
    pattern_rgb: RGB
    pattern_angle: float
    pattern_period: float
    pattern_phase: float
    shade: tuple[float, float]


@dataclass(frozen=True)
class Background:
    """The surfaces behind the objects.

    Attributes:
        surfaces: One category, or a wall and the floor below it.
        horizon: Height of the border at the middle of the image, as a fraction from the top.
        slope: Fall of the border from the left edge to the right edge.
        scales: Scale of each surface's pattern, around 1.
        brightness: Brightness of each surface, around 1.
    """

    surfaces: tuple[StuffCategory, ...]
    horizon: float
    slope: float
    scales: tuple[float, ...]
    brightness: tuple[float, ...]


@dataclass(frozen=True)
class Distractor:
    """A mark on the background that is no object: a line, a blob or a speck of a muted colour.

    Attributes:
        kind: ``"line"``, ``"blob"`` or ``"speck"``.
        center: (x, y) as fractions of the image.
        length: Half of the longer axis as a fraction of the image side.
        width: Half of the shorter axis as a fraction of the image side.
        angle: Direction of the longer axis in radians.
        rgb: 8-bit colour.
        opacity: In [0, 1].
    """

    kind: str
    center: tuple[float, float]
    length: float
    width: float
    angle: float
    rgb: RGB
    opacity: float


@dataclass(frozen=True)
class Scene:
    """A complete description of one picture.

    Attributes:
        seed: Seed of the world.
        split: One of `SPLITS`.
        index: Number of the scene in its split, from 0.
        objects: Things from back to front.
        background: Surfaces behind them.
        distractors: Marks on the surfaces, from back to front.
        light: Change of brightness over the image, to the right and downwards.
        noise: Standard deviation of the pixel noise, in 8-bit levels.
    """

    seed: int
    split: str
    index: int
    objects: tuple[SceneObject, ...]
    background: Background
    distractors: tuple[Distractor, ...]
    light: tuple[float, float]
    noise: float

    @property
    def segments(self) -> tuple[ThingCategory | StuffCategory, ...]:
        """Categories of the segments in the order of `render_scene`: objects, then surfaces."""
        return tuple(o.category for o in self.objects) + self.background.surfaces

    def generator(self, purpose: int) -> np.random.Generator:
        """A fresh random generator that depends on (seed, split, index, purpose) alone.

        Args:
            purpose: Number of the consumer: 1 pixels, 2 captions, 3 region captions, 4 errors of
                the captioner, 5 twins.
        """
        return _generator(self.seed, self.split, self.index, purpose)


def _generator(seed: int, split: str, index: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, SPLITS.index(split), index, purpose])


def _pick(
    rng: np.random.Generator, values: Sequence[Value], probabilities: tuple[float, ...]
) -> Value:
    return values[int(rng.choice(len(values), p=probabilities))]


def _clip_rgb(values: np.ndarray) -> RGB:
    red, green, blue = (int(v) for v in np.clip(np.rint(values), 0, 255))
    return red, green, blue


def _pair(rng: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    first, second = rng.uniform(low, high, 2)
    return float(first), float(second)


def sample_colors(rng: np.random.Generator, color: str) -> tuple[RGB, RGB]:
    """Draws the main colour and the pattern's colour of an object, 8-bit.

    Args:
        rng: Source of jitter and lighting.
        color: A key of `COLORS`.
    """
    rgb = np.array(COLORS[color]) + rng.uniform(-12, 12, 3)
    rgb = rgb * rng.uniform(0.86, 1.08)
    # A pattern is light on a dark colour and dark on a light one, so that it shows on all of them.
    light_color = np.dot(COLORS[color], (0.3, 0.59, 0.11)) > 140
    pattern = rgb * 0.36 if light_color else rgb * 0.3 + np.array([244, 242, 238]) * 0.7
    return _clip_rgb(rgb), _clip_rgb(pattern)


def pattern_period(side: float, texture: str) -> float:
    """Period of an object's pattern; units of ``side``, a fraction of the image side."""
    return (0.032 + 0.15 * side) * (1.3 if texture == "checkered" else 1.0)


def object_margin(side: float) -> float:
    """Largest half-extent of an object of any shape and rotation, in units of ``side``."""
    return 0.62 * side


def _sample_object(
    rng: np.random.Generator, category: ThingCategory, small: bool = False
) -> SceneObject:
    size = "small" if small else _pick(rng, tuple(SIZES), _SIZE_PROBABILITIES)
    side = float(rng.uniform(*SIZES[size]))
    margin = object_margin(side)
    center = _pair(rng, margin, 1 - margin)
    angle = float(rng.uniform(-1, 1)) * ROTATIONS.get(category.shape, 0.0)
    texture = TEXTURES[int(rng.integers(len(TEXTURES)))]

    rgb, pattern_rgb = sample_colors(rng, category.color)
    return SceneObject(
        category=category,
        texture=texture,
        size=size,
        center=center,
        side=side,
        angle=angle,
        rgb=rgb,
        pattern_rgb=pattern_rgb,
        pattern_angle=float(rng.uniform(0, math.pi)),
        pattern_period=pattern_period(side, texture),
        pattern_phase=float(rng.uniform()),
        shade=_pair(rng, -0.2, 0.2),
    )


def object_distance(item: SceneObject, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance of points to the outline of an object.

    Args:
        item: The object.
        x: Fractions of the image from the left; broadcasts with ``y``.
        y: Fractions of the image from the top.

    Returns:
        Broadcast shape; distances as fractions of the image side, negative inside.
    """
    dx, dy = (x - item.center[0]) / item.side, (y - item.center[1]) / item.side
    cos, sin = math.cos(item.angle), math.sin(item.angle)
    along, across = cos * dx + sin * dy, cos * dy - sin * dx
    return signed_distance(item.category.shape, along, across) * item.side


def true_relations(a: SceneObject, b: SceneObject) -> tuple[str, ...]:
    """Relations of ``a`` to ``b`` that hold clearly.

    One holds if the centres differ by `RELATION_MARGIN` along its axis, and by at least half as
    much as along the other axis (nobody calls a thing "left of" what is far above it).
    """
    dx, dy = a.center[0] - b.center[0], a.center[1] - b.center[1]
    found = []
    if abs(dx) >= max(RELATION_MARGIN, abs(dy) / 2):
        found.append("left of" if dx < 0 else "right of")
    if abs(dy) >= max(RELATION_MARGIN, abs(dx) / 2):
        found.append("above" if dy < 0 else "below")
    return tuple(found)


def _box_overlap(a: SceneObject, b: SceneObject) -> float:
    """Intersection of the two boxes over the area of the smaller one."""
    overlap = 1.0
    for axis in (0, 1):
        low = max(a.center[axis] - a.side / 2, b.center[axis] - b.side / 2)
        high = min(a.center[axis] + a.side / 2, b.center[axis] + b.side / 2)
        overlap *= max(0.0, high - low)
    return overlap / min(a.side, b.side) ** 2


def _coarse_mask(item: SceneObject) -> np.ndarray:
    grid = (np.arange(_COARSE, dtype=np.float32) + 0.5) / _COARSE
    return object_distance(item, grid[None, :], grid[:, None]) <= 0


def is_arrangement(objects: Sequence[SceneObject]) -> bool:
    """Whether objects, from back to front, are inside the image and visible as in every scene."""
    for item in objects:
        margin = object_margin(item.side)
        if not all(margin <= value <= 1 - margin for value in item.center):
            return False
    if any(_box_overlap(a, b) > _MAX_BOX_OVERLAP for a, b in itertools.combinations(objects, 2)):
        return False
    masks = [_coarse_mask(item) for item in objects]
    covered = np.zeros_like(masks[0])
    for mask in reversed(masks):
        if (mask & ~covered).sum() < _MIN_VISIBLE * mask.sum():
            return False
        covered |= mask
    return True


def _sample_objects(
    rng: np.random.Generator, things: Sequence[ThingCategory]
) -> tuple[SceneObject, ...]:
    wanted = _pick(rng, tuple(_NUM_OBJECTS), tuple(_NUM_OBJECTS.values()))
    objects: list[SceneObject] = []
    masks: list[np.ndarray] = []  # complete masks, (_COARSE, _COARSE)
    visible: list[np.ndarray] = []  # what is left of them after occlusion
    while len(objects) < wanted:
        used = [o.category.id for o in objects]
        if used and rng.uniform() < _REPEAT_PROBABILITY:
            category = objects[int(rng.integers(len(objects)))].category
        else:
            free = [c for c in things if c.id not in used]
            category = free[int(rng.integers(len(free)))]
        for attempt in range(_TRIES):
            item = _sample_object(rng, category, small=attempt >= _TRIES // 2)
            touching = [i for i, o in enumerate(objects) if _box_overlap(item, o) > 0]
            if any(_box_overlap(item, objects[i]) > _MAX_BOX_OVERLAP for i in touching):
                continue
            mask = _coarse_mask(item)
            left = {i: visible[i] & ~mask for i in touching}
            if all(left[i].sum() >= _MIN_VISIBLE * masks[i].sum() for i in touching):
                break
        else:
            if len(objects) >= 2:
                break  # the picture is full
            continue
        for i, rest in left.items():
            visible[i] = rest
        objects.append(item)
        masks.append(mask)
        visible.append(mask)
    return tuple(objects)


def _sample_background(rng: np.random.Generator) -> Background:
    surfaces: tuple[StuffCategory, ...]
    if rng.uniform() < 0.4:
        surfaces = (STUFF_CATEGORIES[int(rng.integers(len(STUFF_CATEGORIES)))],)
    else:
        walls = [c for c in STUFF_CATEGORIES if c.kind == "wall"]
        floors = [c for c in STUFF_CATEGORIES if c.kind == "floor"]
        surfaces = (walls[int(rng.integers(len(walls)))], floors[int(rng.integers(len(floors)))])
    return Background(
        surfaces=surfaces,
        horizon=float(rng.uniform(0.35, 0.68)),
        slope=float(rng.uniform(-0.08, 0.08)),
        scales=tuple(float(rng.uniform(0.85, 1.2)) for _ in surfaces),
        brightness=tuple(float(rng.uniform(0.88, 1.08)) for _ in surfaces),
    )


def _sample_distractors(rng: np.random.Generator) -> tuple[Distractor, ...]:
    marks = []
    # half length and half width of each kind, as fractions of the image side
    kinds = {
        "blob": ((0.03, 0.1), (0.015, 0.05), (0.25, 0.6), int(rng.integers(2, 6))),
        "line": ((0.04, 0.2), (0.002, 0.006), (0.4, 0.9), int(rng.integers(2, 7))),
        "speck": ((0.004, 0.013), (0.004, 0.011), (0.5, 1.0), int(rng.integers(8, 24))),
    }
    for kind, (lengths, widths, opacities, count) in kinds.items():
        for _ in range(count):
            grey = rng.uniform(50, 215)
            marks.append(
                Distractor(
                    kind=kind,
                    center=_pair(rng, 0, 1),
                    length=float(rng.uniform(*lengths)),
                    width=float(rng.uniform(*widths)),
                    angle=float(rng.uniform(0, math.pi)),
                    rgb=_clip_rgb(grey + rng.uniform(-28, 28, 3)),
                    opacity=float(rng.uniform(*opacities)),
                )
            )
    return tuple(marks)


def sample_scene(
    seed: int, split: str, index: int, things: Sequence[ThingCategory] = THING_CATEGORIES
) -> Scene:
    """Draws one scene; it depends on the arguments alone.

    Args:
        seed: Seed of the world, at least 0.
        split: One of `SPLITS`.
        index: Number of the scene in its split, from 0.
        things: What there is in this world, each as often as any other.

    Returns:
        The scene: 2 to 5 objects, each at least about 70 % visible.

    Raises:
        ValueError: Unknown split, or a negative seed or index.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must be at least 0, got seed={seed}, index={index}")
    rng = _generator(seed, split, index, 0)
    return Scene(
        seed=seed,
        split=split,
        index=index,
        objects=_sample_objects(rng, things),
        background=_sample_background(rng),
        distractors=_sample_distractors(rng),
        light=_pair(rng, -0.22, 0.22),
        noise=float(rng.uniform(3, 8)),
    )
