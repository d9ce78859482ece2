"""Counts of whole numbers and of words, in memory that does not grow with the data."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from typing import Any

import numpy as np

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

_FUNCTION_WORDS = frozenset(
    (
        *("a", "an", "and", "are", "as", "at", "be", "by", "for", "from", "has", "have", "he"),
        *("her", "his", "in", "into", "is", "it", "its", "next", "of", "off", "on", "or", "out"),
        *("over", "she", "that", "the", "their", "them", "there", "these", "they", "this", "to"),
        *("two", "up", "very", "was", "while", "who", "with"),
    )
)
_COMMON = 100  # words of a report


class Tally:
    """How often each whole number occurs; there are few different ones, so all is exact."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()

    def add(self, value: float) -> None:
        """Counts a value, rounded."""
        self.counts[round(value)] += 1

    def as_json(self) -> dict[str, Any]:
        """Number, mean, extremes and quantiles; the number alone where there is none."""
        total = sum(self.counts.values())
        if not total:
            return {"count": 0}
        values = np.array(sorted(self.counts))
        numbers = np.array([self.counts[value] for value in values.tolist()])
        ends = np.cumsum(numbers)
        places = np.searchsorted(ends, np.array(QUANTILES) * total)
        return {
            "count": total,
            "mean": round(float((values * numbers).sum() / total), 3),
            "min": int(values[0]),
            "max": int(values[-1]),
            "quantiles": {f"{q:g}": int(values[p]) for q, p in zip(QUANTILES, places, strict=True)},
        }


class TextTally:
    """Lengths and words of texts.

    Attributes:
        lengths: In words.
        words: How often each occurs.
    """

    def __init__(self) -> None:
        self.lengths = Tally()
        self.words: Counter[str] = Counter()
        self._hashes = array("Q")  # 8 bytes a text, whatever its length

    def add(self, text: str, words: list[str]) -> None:
        """Counts a text, given its words as well."""
        self.lengths.add(len(words))
        self.words.update(words)
        digest = hashlib.blake2b(" ".join(words).encode(), digest_size=8).digest()
        self._hashes.append(int.from_bytes(digest, "little"))

    def common_words(self, number: int) -> list[tuple[str, int]]:
        """The most frequent words that name or describe something; ties by alphabet."""
        useful = [item for item in self.words.items() if item[0] not in _FUNCTION_WORDS]
        return sorted(useful, key=lambda item: (-item[1], item[0]))[:number]

    def as_json(self) -> dict[str, Any]:
        """Lengths, share of texts that differ (but for case and punctuation), words."""
        hashes = np.frombuffer(self._hashes, np.uint64) if self._hashes else np.zeros(0, np.uint64)
        distinct = len(np.unique(hashes))
        return {
            "words_per_text": self.lengths.as_json(),
            "distinct": distinct,
            "distinct_share": round(distinct / max(1, len(hashes)), 4),
            "words": sum(self.words.values()),
            "distinct_words": len(self.words),
            "common_words": [list(item) for item in self.common_words(_COMMON)],
        }
