"""Which categories of a benchmark the captions of a data set name, and which only something near.

A caption names a category

- **exact**, in the words of its name ("dining table" and "diningtable" are one);
- **inflected**, in other forms of them ("dining tables");
- by a **synonym**: of the vocabulary's own, or of LVIS's, whose lists are short.

Of phrases that overlap, the longest counts: "hot dog" names no dog where a vocabulary has both.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from fineclip.text import Vocabulary, load_vocabulary
from fineclip.text.templates import prompt_name

How = Literal["exact", "inflected", "synonym"]
Level = Literal["relevant", "weakly relevant", "absent"]
HOW: tuple[How, ...] = ("exact", "inflected", "synonym")
LEVELS: tuple[Level, ...] = ("relevant", "weakly relevant", "absent")

MIN_CAPTIONS = 10
"""Captions that name a category of which one can learn."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_POSSESSIVE = re.compile(r"['\u2019]s$")
_REST = {"merged", "other", "stuff"}
"""What COCO's lists add to a name to tell it from others, and nobody says."""

_LONGEST = 5  # words of a phrase that is looked up
_REMEMBERED = 1 << 16


def words_of_text(text: str) -> list[str]:
    """The words of a text, in lower case and without a genitive's s; hyphens part words."""
    return [_POSSESSIVE.sub("", word) for word in _WORD.findall(text.casefold())]


@lru_cache(_REMEMBERED)
def lemmas(word: str) -> tuple[str, ...]:
    """The nouns that a word may be a form of: "leaves" may be of "leaf" and of "leave"."""
    try:
        from lemminflect import getAllLemmas  # of an extra
    except ModuleNotFoundError:
        raise ImportError(
            "vocabulary coverage needs lemminflect: pip install 'fineclip-toolkit[annotation]'"
        ) from None
    return getAllLemmas(word, upos="NOUN").get("NOUN", ()) or (word,)


@dataclass
class CategoryCoverage:
    """How often captions name one category.

    Attributes:
        name: As the vocabulary has it.
        captions: Captions that name it, by how; each counts once, the first of :data:`HOW`.
        near: The nearest words of the captions that do not name it, with their cosine.
        level: "relevant" if enough captions name it; "weakly relevant" if some do, or a near word
            is there; else "absent".
    """

    name: str
    captions: Counter[How] = field(default_factory=Counter)
    near: list[tuple[str, float]] = field(default_factory=list)
    level: Level = "absent"

    @property
    def total(self) -> int:
        """Captions that name it."""
        return sum(self.captions.values())

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {
            "name": self.name,
            "level": self.level,
            "captions": {how: self.captions[how] for how in HOW},
            "near": [[word, round(cosine, 3)] for word, cosine in self.near],
        }


class Coverage:
    """Counts in how many captions each category of a vocabulary is named.

    Args:
        vocabulary: The categories.

    Attributes:
        vocabulary: The categories.
        categories: What is known of each, in their order.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.categories = [CategoryCoverage(name) for name in vocabulary.names]
        # Keys are letters without spaces: run together, and lemmatised and then run together.
        self._written: dict[str, list[tuple[int, How]]] = {}
        self._lemmas: dict[str, list[tuple[int, How]]] = {}
        names = [list(_phrases(name)) for name in vocabulary.prompt_names]
        taken = {"".join(phrase) for phrases in names for phrase in phrases}
        for place, phrases in enumerate(names):
            for phrase in phrases:
                self._know(phrase, place, "exact", "inflected")
            for synonym in _synonyms(vocabulary, place):
                for phrase in _phrases(synonym):
                    if "".join(phrase) not in taken:  # which names another category
                        self._know(phrase, place, "synonym", "synonym")
        # Recurring captions are many: those of regions above all.
        self._found_in = lru_cache(_REMEMBERED)(self._find)

    def add(self, caption: str) -> None:
        """Counts one caption."""
        for place, how in self._found_in(caption):
            self.categories[place].captions[how] += 1

    def judge(self, min_captions: int = MIN_CAPTIONS) -> None:
        """Sets the level of each category, once all captions and near words are in."""
        for category in self.categories:
            if category.total >= min_captions:
                category.level = "relevant"
            else:
                some = category.total or category.near
                category.level = "weakly relevant" if some else "absent"

    def levels(self) -> dict[Level, int]:
        """Categories by level."""
        found = Counter(category.level for category in self.categories)
        return {level: found[level] for level in LEVELS}

    def as_json(self) -> dict[str, Any]:
        """For a file: levels, and the categories as the vocabulary orders them."""
        return {
            "levels": self.levels(),
            "categories": [category.as_json() for category in self.categories],
        }

    def _know(self, phrase: Sequence[str], place: int, written: How, inflected: How) -> None:
        self._written.setdefault("".join(phrase), []).append((place, written))
        for key in _lemma_keys(phrase):
            self._lemmas.setdefault(key, []).append((place, inflected))

    def _find(self, caption: str) -> tuple[tuple[int, How], ...]:
        """The categories that a caption names, each once, by the first of :data:`HOW`."""
        words = words_of_text(caption)
        best: dict[int, How] = {}
        start = 0
        while start < len(words):
            length = 1
            for end in range(min(len(words), start + _LONGEST), start, -1):
                if found := self._named_by(words[start:end]):
                    for place, how in found:
                        best[place] = min(how, best.get(place, how), key=HOW.index)
                    length = end - start
                    break
            start += length
        return tuple(best.items())

    def _named_by(self, phrase: Sequence[str]) -> list[tuple[int, How]]:
        if found := self._written.get("".join(phrase)):
            return found
        return [item for key in _lemma_keys(phrase) for item in self._lemmas.get(key, ())]


def _lemma_keys(phrase: Sequence[str]) -> list[str]:
    """Of the last word, which is what English inflects, all lemmas; of the others the first."""
    begin = "".join(lemmas(word)[0] for word in phrase[:-1])
    return [begin + lemma for lemma in lemmas(phrase[-1])]


def _phrases(name: str) -> Iterator[list[str]]:
    """The words of a category's name, or of several that it is written as.

    "bat_(animal)" is a bat, "wall-brick" a brick wall as well, and "sky-other-merged" a sky.
    """
    plain = re.sub(r"\([^)]*\)", ",", prompt_name(name))
    for part in re.split(r"[,;]| or ", plain):
        words = words_of_text(part)
        kept = [word for word in words if word not in _REST] or words
        if kept:
            yield kept
        if len(kept) == 2 and "-" in part:
            yield kept[::-1]


def _synonyms(vocabulary: Vocabulary, place: int) -> Iterable[str]:
    own = vocabulary.synonyms[place]
    key = "".join(words_of_text(prompt_name(vocabulary.prompt_names[place])))
    return dict.fromkeys((*own, *_lvis_synonyms().get(key, ())))


@lru_cache(1)
def _lvis_synonyms() -> dict[str, list[str]]:
    """Other names of what LVIS has several names for, by each of them run together."""
    found: dict[str, list[str]] = {}
    for names in load_vocabulary("lvis_v1").synonyms:
        plain = [re.sub(r"_?\([^)]*\)", "", name) for name in names]
        for name in plain:
            key = "".join(words_of_text(prompt_name(name)))
            found.setdefault(key, []).extend(other for other in plain if other != name)
    return found
