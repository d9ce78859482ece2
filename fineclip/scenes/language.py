"""Sentences about scenes: captions of whole images and of single objects.

Captions of images are true, short enough for a text tower with 32 positions, and specific: two or
three objects, most of them with size and texture, often a relation, often the background. They
never say where in the image something is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fineclip.scenes.twins import SceneDifference
from fineclip.scenes.world import Scene, SceneObject, true_relations

RELATIONS = ("left of", "right of", "above", "below")
"""Relations between two objects, decided by the centres of their boxes."""

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
        phrases: How each of them is described.
        relations: What is stated about pairs of them.
        mentions_background: Whether the sentence names the surfaces.
    """

    text: str
    objects: tuple[int, ...]
    phrases: tuple[str, ...]
    relations: tuple[Relation, ...]
    mentions_background: bool


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
    return Caption(
        text=text + background if mentions else text,
        objects=tuple(order),
        phrases=tuple(phrases[i] for i in order),
        relations=relations,
        mentions_background=mentions,
    )


def _states(caption: Caption, scene: Scene, difference: SceneDifference) -> bool:
    """Whether a caption says that in which a scene differs from its twin."""
    if difference.kind == "background":
        return caption.mentions_background
    if difference.kind == "relation":
        return any({r.subject, r.object} == set(difference.objects) for r in caption.relations)
    (number,) = difference.objects
    if number not in caption.objects:
        return False
    item = scene.objects[number]
    words = {"texture": item.texture, "size": item.size}
    phrase = caption.phrases[caption.objects.index(number)]
    return words.get(difference.kind, item.category.shape) in phrase.split()


def scene_captions(
    scene: Scene, count: int = 2, *, difference: SceneDifference | None = None
) -> tuple[Caption, ...]:
    """Different captions of a whole scene.

    Args:
        scene: The scene.
        count: How many; the first n do not depend on it.
        difference: What every caption must state, so that it is false for the scene's twin.

    Returns:
        ``count`` captions, of at most `MAX_TOKENS` tokens each.
    """
    rng = scene.generator(2)
    captions: list[Caption] = []
    while len(captions) < count:
        caption = _caption(scene, rng)
        if difference is not None and not _states(caption, scene, difference):
            continue
        if _num_tokens(caption.text) <= MAX_TOKENS and caption.text not in {
            c.text for c in captions
        }:
            captions.append(caption)
    return tuple(captions)


@dataclass(frozen=True)
class RegionPhrase:
    """What a caption of one region says, word by word; an empty word is not said.

    Attributes:
        noun: The thing, or the whole name of a surface.
        color: Colour of the thing.
        size: Its size.
        texture: Its surface pattern.
        texture_last: Whether the pattern follows the noun ("with stripes").
        article: Whether the caption begins with an article.
    """

    noun: str
    color: str = ""
    size: str = ""
    texture: str = ""
    texture_last: bool = False
    article: bool = True

    @property
    def text(self) -> str:
        """The caption."""
        last = _PATTERN_NOUNS.get(self.texture) if self.texture_last else None
        texture = "" if last else self.texture
        text = " ".join(filter(None, (self.size, texture, self.color, self.noun)))
        article = ("an " if text[0] in "aeiou" else "a ") if self.article else ""
        return f"{article}{text} with {last}" if last else f"{article}{text}"


def _describe_region(item: SceneObject, rng: np.random.Generator) -> RegionPhrase:
    pattern = int(rng.integers(4))
    article = rng.uniform() < 0.75
    size = item.size if rng.uniform() < 0.8 else ""
    stated = pattern < (2 if item.texture == "plain" else 3)
    return RegionPhrase(
        noun=item.category.shape,
        color=item.category.color,
        size=size,
        texture=item.texture if stated else "",
        texture_last=pattern == 0,
        article=article,
    )


def region_phrases(scene: Scene) -> tuple[RegionPhrase, ...]:
    """A true description of every region: of objects the category and most attributes.

    Args:
        scene: The scene.

    Returns:
        Phrases in the order of ``scene.segments``.
    """
    rng = scene.generator(3)
    things = tuple(_describe_region(item, rng) for item in scene.objects)
    return things + tuple(RegionPhrase(surface.name) for surface in scene.background.surfaces)
