"""Sentences about scenes: captions of whole images and of single objects.

Captions are true, short enough for a text tower with 32 positions, and specific: two or three
objects, most of them with size and texture, often a relation, often the background. They never
say where in the image something is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fineclip.scenes.world import Scene, SceneObject

RELATIONS = ("left of", "right of", "above", "below")
"""Relations between two objects, decided by the centres of their boxes."""

RELATION_MARGIN = 0.12
"""Distance between two centres (fraction of the image side) from which a relation is stated."""

MAX_TOKENS = 29
"""Longest caption in tokens of CLIP's vocabulary, start and end tokens included."""

_REVERSED = {
    "left of": "on its left",
    "right of": "on its right",
    "above": "above it",
    "below": "below it",
}
_PATTERN_NOUNS = {"striped": "stripes", "dotted": "dots", "checkered": "checks"}
_TWO_TOKENS = frozenset({"checkered", "cyan", "tiled"})  # all other words are one token of CLIP's


@dataclass(frozen=True)
class Relation:
    """A statement about two objects.

    Attributes:
        subject: Position in ``scene.objects`` of the object the statement is about.
        name: One of `RELATIONS`.
        object: Position in ``scene.objects`` of the object it is compared with.
    """

    subject: int
    name: str
    object: int


@dataclass(frozen=True)
class Caption:
    """A sentence and what it says.

    Attributes:
        text: The sentence.
        objects: Positions in ``scene.objects`` of the objects in the order they are mentioned.
        relations: What is stated about pairs of them.
        mentions_background: Whether the sentence names the surfaces.
    """

    text: str
    objects: tuple[int, ...]
    relations: tuple[Relation, ...]
    mentions_background: bool


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


def _describe(item: SceneObject, rng: np.random.Generator) -> str:
    words = ["a"]
    if rng.uniform() < 0.75:
        words.append(item.size)
    if rng.uniform() < (0.4 if item.texture == "plain" else 0.8):
        words.append(item.texture)
    words.append(item.category.name)
    return " ".join(words)


def _num_tokens(text: str) -> int:
    """Tokens of CLIP's vocabulary: start, end, and one or two for each word and comma."""
    words = text.replace(",", " ,").split()
    return len(words) + sum(word in _TWO_TOKENS for word in words) + 2


def _background_phrase(scene: Scene) -> str:
    names = [surface.name for surface in scene.background.surfaces]
    return f" on a {names[0]}" if len(names) == 1 else f", {names[0]} over {names[1]}"


def _caption(scene: Scene, rng: np.random.Generator) -> Caption:
    count = 3 if len(scene.objects) > 2 and rng.uniform() < 0.7 else 2
    first, second, *third = (int(i) for i in rng.permutation(len(scene.objects))[:count])
    phrases = {i: _describe(scene.objects[i], rng) for i in (first, second, *third)}
    candidates = true_relations(scene.objects[first], scene.objects[second])

    relations: tuple[Relation, ...] = ()
    order = [first, second, *third]
    if candidates and rng.uniform() < 0.8:
        name = candidates[int(rng.integers(len(candidates)))]
        relations = (Relation(first, name, second),)
        if rng.uniform() < 0.7:
            text = f"{phrases[first]} {name} {phrases[second]}"
        else:
            text = f"{phrases[second]} with {phrases[first]} {_REVERSED[name]}"
            order[:2] = second, first
        if third and rng.uniform() < 0.5:
            text = f"{phrases[third[0]]}, and {text}"
            order = [*third, *order[:2]]
        elif third:
            text = f"{text}, and {phrases[third[0]]}"
    else:
        text = f"{phrases[first]} and {phrases[second]}"
        if third:
            text = f"{phrases[first]}, {phrases[second]} and {phrases[third[0]]}"

    background = _background_phrase(scene)
    mentions = rng.uniform() < 0.65 and _num_tokens(text + background) <= MAX_TOKENS
    return Caption(text + background if mentions else text, tuple(order), relations, mentions)


def scene_captions(scene: Scene, count: int = 2) -> tuple[Caption, ...]:
    """Different captions of a whole scene.

    Args:
        scene: The scene.
        count: How many; the first n do not depend on it.

    Returns:
        ``count`` captions, of at most `MAX_TOKENS` tokens each.
    """
    rng = scene.generator(2)
    captions: list[Caption] = []
    while len(captions) < count:
        caption = _caption(scene, rng)
        if _num_tokens(caption.text) <= MAX_TOKENS and caption.text not in {
            c.text for c in captions
        }:
            captions.append(caption)
    return tuple(captions)


def _region_caption(item: SceneObject, rng: np.random.Generator) -> str:
    pattern = int(rng.integers(4))
    article = "a " if rng.uniform() < 0.75 else ""
    size = f"{item.size} " if rng.uniform() < 0.8 else ""
    if item.texture == "plain":
        texture = "plain " if pattern < 2 else ""
        return f"{article}{size}{texture}{item.category.name}"
    if pattern == 0:
        return f"{article}{size}{item.category.name} with {_PATTERN_NOUNS[item.texture]}"
    texture = f"{item.texture} " if pattern < 3 else ""
    return f"{article}{size}{texture}{item.category.name}"


def region_captions(scene: Scene) -> tuple[str, ...]:
    """One caption per object, with its category name in it.

    Args:
        scene: The scene.

    Returns:
        Captions in the order of ``scene.objects``.
    """
    rng = scene.generator(3)
    return tuple(_region_caption(item, rng) for item in scene.objects)
