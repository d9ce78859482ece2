"""Captions of regions as a captioner writes them: shorter, vaguer, and sometimes wrong.

FineCLIP's region captions come from BLIP-2, which sees the crop of a box, knows no list of
categories, leaves out most attributes, and may describe what else is in the crop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from fineclip.checks import nearest, real
from fineclip.scenes.categories import COLORS, STUFF_CATEGORIES
from fineclip.scenes.language import RegionPhrase, region_phrases
from fineclip.scenes.shapes import SHAPES, TEXTURES
from fineclip.scenes.world import SIZES, Scene

SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("disc", "disk"),
    "square": ("box",),
    "triangle": ("wedge",),
    "ring": ("hoop", "donut"),
    "cross": ("plus",),
    "red": ("scarlet",),
    "green": ("emerald",),
    "yellow": ("golden",),
    "purple": ("violet",),
    "cyan": ("turquoise",),
    "small": ("little", "tiny"),
    "large": ("big", "huge"),
    "plain": ("solid",),
    "striped": ("lined",),
    "dotted": ("spotted",),
    "checkered": ("checked",),
}
"""Other words for what scenes show; none of them is in a true caption."""

HYPERNYMS = ("shape", "object", "thing", "figure")
"""Nouns that say nothing about a thing's shape. A surface becomes a "wall" or a "floor"."""

_IN_CROP = 0.25  # least part of an object's box in a crop with which it can be described
_SURFACE_KINDS = {surface.name: surface.kind for surface in STUFF_CATEGORIES}
_WORDS = {"color": tuple(COLORS), "size": tuple(SIZES), "texture": TEXTURES}
_SLOTS = ("noun", *_WORDS)

Box = tuple[float, float, float, float]
Replacement = TypeVar("Replacement")


@dataclass(frozen=True)
class CaptionerRates:
    """How often captions of regions differ from true, complete ones; probabilities in [0, 1].

    Each is a rate among the captions that it can concern: a wrong colour among stated colours,
    another object where another one is in the crop.

    The defaults. Wrong nouns: about 5 % of the objects in short captions of BLIP, OFA and VinVL
    are not in the image (CHAIRi of Rohrbach et al. 2018, measured by Li et al. 2023, "Evaluating
    Object Hallucination in Large Vision-Language Models", table 1). Wrong attributes: no rate for
    short captions is published that we know of; the same is taken. Omission: Visual Genome's
    descriptions of regions have 26 attributes per 35 objects (Krishna et al. 2017), 0.74 each; so
    have these, most of them colours, as there. Other names: people call an object by another name
    than its most common one in a quarter of cases (ManyNames, Silberer et al. 2020); its division
    is our choice. Other objects in the crop: nothing published that we know of; our choice.

    Attributes:
        synonym: One word replaced by another for the same.
        hypernym: A noun that fits every thing ("shape"), or every wall or floor.
        omitted_color: The colour left out.
        omitted_size: The size left out.
        omitted_texture: The surface pattern left out.
        wrong_noun: Another shape, or another surface of the kind.
        wrong_color: Another colour.
        wrong_size: Another size.
        wrong_texture: Another surface pattern.
        other_object: Another object in the crop described in place of the region.
        added_object: Another object in the crop described as well.

    Raises:
        ValueError: A rate is no number or out of range.
    """

    synonym: float = 0.15
    hypernym: float = 0.1
    omitted_color: float = 0.5
    omitted_size: float = 0.85
    omitted_texture: float = 0.8
    wrong_noun: float = 0.05
    wrong_color: float = 0.05
    wrong_size: float = 0.05
    wrong_texture: float = 0.05
    other_object: float = 0.1
    added_object: float = 0.2

    def __post_init__(self) -> None:
        for name in CAPTION_ERRORS:
            real(0, 1).require(getattr(self, name), f"captioner rate {name}")

    @classmethod
    def from_options(cls, options: Mapping[str, float] | None) -> CaptionerRates:
        """Rates by name beside the defaults; None: a captioner without errors.

        Raises:
            ValueError: An unknown name, or a rate out of range.
        """
        if options is None:
            return cls(**dict.fromkeys(CAPTION_ERRORS, 0.0))
        for name in set(options) - set(CAPTION_ERRORS):
            raise ValueError(f"there is no captioner rate {name}; {nearest(name, CAPTION_ERRORS)}")
        return cls(**options)


CAPTION_ERRORS = tuple(entry.name for entry in fields(CaptionerRates))
"""Names of what a captioner may do to a caption."""


@dataclass(frozen=True)
class RegionCaption:
    """A captioner's sentence about a region.

    Attributes:
        text: The sentence.
        errors: Which of `CAPTION_ERRORS` it has.
    """

    text: str
    errors: frozenset[str]


class _Draws:
    """The random numbers of one caption: the same for every rate but the one in question."""

    def __init__(self, rates: CaptionerRates, numbers: Sequence[Sequence[float]]) -> None:
        self._rates = rates
        self._numbers = dict(zip(CAPTION_ERRORS, numbers, strict=True))
        self.errors: list[str] = []

    def pick(self, error: str, values: Sequence[Replacement]) -> Replacement | None:
        """What the error, if it happens, puts in place; it cannot happen without ``values``."""
        happens, choice = self._numbers[error]
        if not values or happens >= getattr(self._rates, error):
            return None
        self.errors.append(error)
        return values[int(choice * len(values))]


def _reword(phrase: RegionPhrase, draws: _Draws) -> str:
    """Leaves out and replaces words of a true description."""
    words: dict[str, Any] = {slot: getattr(phrase, slot) for slot in _SLOTS}
    kind = _SURFACE_KINDS.get(phrase.noun)
    nouns = [name for name, other in _SURFACE_KINDS.items() if other == kind] if kind else SHAPES
    for slot in _WORDS:
        if words[slot] and draws.pick(f"omitted_{slot}", ("left out",)):
            words[slot] = ""
    words["noun"] = (
        draws.pick("hypernym", (kind,) if kind else HYPERNYMS)
        or draws.pick("wrong_noun", [noun for noun in nouns if noun != phrase.noun])
        or phrase.noun
    )
    for slot, known in _WORDS.items():
        others = [word for word in known if word != words[slot]] if words[slot] else []
        words[slot] = draws.pick(f"wrong_{slot}", others) or words[slot]
    same = [{slot: word} for slot in _SLOTS for word in SYNONYMS.get(words[slot], ())]
    words.update(draws.pick("synonym", same) or {})
    return replace(phrase, **words).text


def _crops(scene: Scene) -> list[Box]:
    """Boxes of the segments before occlusion, (x0, y0, x1, y1) as fractions of the image."""
    boxes = []
    for item in scene.objects:
        (x, y), half = item.center, item.side / 2
        boxes.append((x - half, y - half, x + half, y + half))
    background = scene.background
    rise = abs(background.slope) / 2
    if len(background.surfaces) == 1:
        return [*boxes, (0.0, 0.0, 1.0, 1.0)]
    wall, floor = background.horizon + rise, background.horizon - rise
    return [*boxes, (0.0, 0.0, 1.0, wall), (0.0, floor, 1.0, 1.0)]


def _part_inside(box: Box, crop: Box) -> float:
    width = min(box[2], crop[2]) - max(box[0], crop[0])
    height = min(box[3], crop[3]) - max(box[1], crop[1])
    return max(0.0, width) * max(0.0, height) / ((box[2] - box[0]) * (box[3] - box[1]))


def captioner_captions(scene: Scene, rates: CaptionerRates) -> tuple[RegionCaption, ...]:
    """What a captioner writes about the crop of each region.

    The draws depend on the scene alone: another rate changes the captions of that error only, and
    nothing else in the scene.

    Args:
        scene: The scene.
        rates: How often it errs; with all of them 0, captions are those of `region_phrases`.

    Returns:
        Captions in the order of ``scene.segments``.
    """
    phrases, crops = region_phrases(scene), _crops(scene)
    numbers = scene.generator(4).uniform(size=(len(phrases), 2, len(CAPTION_ERRORS), 2)).tolist()
    captions = []
    for region, phrase in enumerate(phrases):
        draws, of_added = (_Draws(rates, own) for own in numbers[region])
        others = [
            number
            for number in range(len(scene.objects))
            if number != region and _part_inside(crops[number], crops[region]) >= _IN_CROP
        ]
        if (other := draws.pick("other_object", others)) is not None:
            phrase = phrases[other]
            others.remove(other)
        text = _reword(phrase, draws)
        if (other := draws.pick("added_object", others)) is not None:
            text = f"{text} and {_reword(phrases[other], of_added)}"
        captions.append(RegionCaption(text, frozenset(draws.errors + of_added.errors)))
    return tuple(captions)
