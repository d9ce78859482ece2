"""The vocabulary of the scenes: which things and surfaces exist, and which things are novel.

The base/novel split is a fixed design, the same for every seed: each colour and each shape has
four base and two novel combinations, so every word of a novel name is known from base names.
"""

from __future__ import annotations

from dataclasses import dataclass

from fineclip.scenes.shapes import OWN_SHAPES, SHAPES

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 38, 40),
    "green": (44, 150, 52),
    "blue": (38, 72, 214),
    "yellow": (242, 208, 38),
    "purple": (150, 52, 190),
    "cyan": (40, 196, 212),
}
"""Colour words and their 8-bit RGB values before jitter."""

_NOVEL_OFFSETS = (0, 3)
_FREQUENT_OFFSETS = (1, 4)


@dataclass(frozen=True)
class ThingCategory:
    """A countable category: one colour on one shape.

    Attributes:
        id: COCO category id, 1 to 36 (class index + 1), or above the surfaces'.
        name: For example ``"red ring"``.
        color: A key of `COLORS`.
        shape: One of `fineclip.scenes.shapes.SHAPES`, or of `OWN_SHAPES`.
        split: ``"base"`` or ``"novel"``.
        frequency: LVIS group: ``"r"`` for novel, ``"c"`` or ``"f"`` for half of the base each.
            A fixed label: the scenes draw all categories equally often.
    """

    id: int
    name: str
    color: str
    shape: str
    split: str
    frequency: str


@dataclass(frozen=True)
class StuffCategory:
    """A background surface.

    Attributes:
        id: Panoptic category id, 37 to 42; class index + 1.
        name: For example ``"grey brick wall"``.
        kind: ``"wall"`` or ``"floor"``; in a scene with two surfaces the wall is above.
    """

    id: int
    name: str
    kind: str


def _thing(color_index: int, shape_index: int) -> ThingCategory:
    color, shape = list(COLORS)[color_index], SHAPES[shape_index]
    offset = (shape_index - color_index) % len(SHAPES)
    novel = offset in _NOVEL_OFFSETS
    return ThingCategory(
        id=color_index * len(SHAPES) + shape_index + 1,
        name=f"{color} {shape}",
        color=color,
        shape=shape,
        split="novel" if novel else "base",
        frequency="r" if novel else "f" if offset in _FREQUENT_OFFSETS else "c",
    )


THING_CATEGORIES: tuple[ThingCategory, ...] = tuple(
    _thing(c, s) for c in range(len(COLORS)) for s in range(len(SHAPES))
)
"""The 36 things; position = class index = id - 1."""

STUFF_CATEGORIES: tuple[StuffCategory, ...] = tuple(
    StuffCategory(len(THING_CATEGORIES) + 1 + i, name, name.rsplit(maxsplit=1)[-1])
    for i, name in enumerate(
        (
            "grey brick wall",
            "white tiled wall",
            "beige plaster wall",
            "wooden floor",
            "sandy floor",
            "dark carpet floor",
        )
    )
)
"""The 6 surfaces; class index = id - 1, continuing after the things."""

BASE_CATEGORIES: tuple[ThingCategory, ...] = tuple(c for c in THING_CATEGORIES if c.split == "base")
"""The 24 things whose boxes a detector may be trained on."""

NOVEL_CATEGORIES: tuple[ThingCategory, ...] = tuple(
    c for c in THING_CATEGORIES if c.split == "novel"
)
"""The 12 things that appear in images and captions but never among base labels."""

OWN_CATEGORIES: tuple[ThingCategory, ...] = tuple(
    ThingCategory(
        id=len(THING_CATEGORIES) + len(STUFF_CATEGORIES) + 1 + i * len(COLORS) + j,
        name=f"{color} {shape}",
        color=color,
        shape=shape,
        split="novel",
        frequency="r",
    )
    for i, shape in enumerate(OWN_SHAPES)
    for j, color in enumerate(COLORS)
)
"""Things that scenes do not show; ids continue after the surfaces. Data of one's own label them by
their shape alone."""
