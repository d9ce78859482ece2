"""What the page shows: functions of a photograph and words, without a browser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from fineclip.demo.bounds import DEFAULT_BOUNDS, Bounds, read_photograph, words_of
from fineclip.looking import Answer, EncodedPhotograph, Looker, cells_of_grid, draw_regions
from fineclip.models import DenseCLIP, WordEmbedder
from fineclip.models.embedding_cache import EmbeddingCache
from fineclip.visualization import draw_heat, undrawable

Draw: TypeAlias = Callable[[Image.Image, Sequence[str], "Settings"], Image.Image]
"""Draws what a detector or a segmenter finds in an RGB image: image, words, settings."""

MOST_MAPS = {"dense": 8, "relevance": 4}
"""Words that have a map, the best of the whole; relevance costs a pass forward and one back."""

PHOTOGRAPHS = 8
"""Photographs that are remembered with their embeddings, a few megabytes each."""


@dataclass(frozen=True)
class Settings:
    """What the sliders of the page say.

    Attributes:
        grid: Rows and columns of the regions.
        score: Detections that are less certain are left out.
        opacity: Share of the colours in the segmented picture.
        none_below: Pixels whose best word is less likely are none of the words.
    """

    grid: int = 3
    score: float = 0.2
    opacity: float = 0.55
    none_below: float = 0.0


@dataclass(frozen=True)
class Shown:
    """What a tab shows.

    Attributes:
        content: Scores by line of text, a picture, or panels.
        note: What is to be said beside it; empty: nothing.
    """

    content: Any
    note: str = ""


class PageViews:
    """What a model says of uploaded photographs, one method a tab of the page.

    All take the uploaded file, the text with the words and the settings, and raise ValueError, with
    a message for the visitor, for what is out of bounds or cannot be read.

    Args:
        clip: The model, in eval mode.
        bounds: What is taken.
        detect: Draws detections; None: there is no detector.
        segment: Draws segments; None: there is no segmenter.
        cache: Of the model with its weights, on disk; None: words are remembered in memory alone.
    """

    def __init__(
        self,
        clip: DenseCLIP,
        bounds: Bounds = DEFAULT_BOUNDS,
        detect: Draw | None = None,
        segment: Draw | None = None,
        cache: EmbeddingCache | None = None,
    ) -> None:
        self.bounds = bounds
        self.detector, self.segmenter = detect, segment
        self._embed = WordEmbedder(clip, cache=cache)
        self._looker = Looker(clip, (), torch.zeros(0, clip.embed_dim))  # words come later
        self._seen = lru_cache(PHOTOGRAPHS)(self._see)

    def words(self, file: str | None, text: str, settings: Settings) -> Shown:
        """Scores of the whole by word."""
        _, answer = self._answer(file, text)
        scores = {
            f"{answer.words[i]} (cosine {answer.similarities[i]:.3f})": float(answer.scores[i])
            for i in answer.best(len(answer.words))
        }
        if len(scores) == 1 and self._looker.clip.logit_bias is None:
            return Shown(
                scores,
                "Scores compare words: one alone always gets 100 %. Add what it could be instead.",
            )
        return Shown(scores)

    def regions(self, file: str | None, text: str, settings: Settings) -> Shown:
        """The photograph with the best word of each cell of a grid."""
        photograph, answer = self._answer(file, text, settings.grid)
        return Shown(draw_regions(photograph, answer), _lettering_note(answer.words))

    def dense_map(self, file: str | None, text: str, settings: Settings) -> Shown:
        """How similar each place is to each word, on one scale."""
        photograph, answer = self._answer(file, text)
        best = answer.best(MOST_MAPS["dense"])
        maps = answer.maps["dense"][best].numpy()
        low, high = np.percentile(maps, (1, 99)).tolist()
        note = f"Blue: cosine {low:.3f} and below, red: {high:.3f} and above, in all pictures."
        return _panels(photograph, answer, best, maps, (low, high), note)

    def relevance(self, file: str | None, text: str, settings: Settings) -> Shown:
        """What each place does for the score of each word, each on its own scale."""
        photograph, answer = self._answer(file, text)
        best = answer.best(MOST_MAPS["relevance"])
        maps = self._looker_of(answer.words).relevance(photograph, best).numpy()
        maps = maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
        note = "Red: what made the word's score as high as it is; each picture has its own scale."
        return _panels(photograph, answer, best, maps, (0, 1), note)

    def detect(self, file: str | None, text: str, settings: Settings) -> Shown:
        """The photograph with boxes of what the detector finds of the words."""
        return self._drawn(self.detector, file, text, settings)

    def segment(self, file: str | None, text: str, settings: Settings) -> Shown:
        """The photograph with a word for every pixel."""
        return self._drawn(self.segmenter, file, text, settings)

    def prepare(self, file: str | None, text: str, settings: Settings) -> Shown:
        """Embeds the words while they are typed, for a view that is too slow to follow."""
        self._embed(words_of(text, self.bounds))
        return Shown(None, "Press Enter to look for these words.")

    def _drawn(self, draw: Draw | None, file: str | None, text: str, settings: Settings) -> Shown:
        if draw is None:
            raise ValueError("The page was started without this model.")
        photograph = self._photograph(file)[0]
        words = words_of(text, self.bounds)
        return Shown(draw(photograph, words, settings), _lettering_note(words))

    def _answer(self, file: str | None, text: str, grid: int = 1) -> tuple[Image.Image, Answer]:
        photograph, encoded = self._photograph(file)
        words = words_of(text, self.bounds)
        boxes = cells_of_grid(grid)(Path(file or ""), photograph)
        return photograph, self._looker_of(words).answer(encoded, boxes)

    def _looker_of(self, words: tuple[str, ...]) -> Looker:
        return replace(self._looker, words=words, embeddings=self._embed(words))

    def _photograph(self, file: str | None) -> tuple[Image.Image, EncodedPhotograph]:
        if not file:
            raise ValueError("Drop a photograph to look at.")
        return self._seen(file)

    def _see(self, file: str) -> tuple[Image.Image, EncodedPhotograph]:
        photograph = read_photograph(file, self.bounds)
        return photograph, self._looker.encode(photograph)


def _panels(
    photograph: Image.Image,
    answer: Answer,
    words: Sequence[int],
    maps: np.ndarray,
    scale: tuple[float, float],
    note: str,
) -> Shown:
    """A picture of each (h, w) map with its word and score below."""
    panels = [
        (draw_heat(photograph, values, *scale), f"{answer.words[i]} {answer.scores[i]:.2f}")
        for i, values in zip(words, maps, strict=True)
    ]
    if len(words) < len(answer.words):
        note += f" The {len(words)} likeliest of {len(answer.words)} words."
    return Shown(panels, note)


def _lettering_note(words: Sequence[str]) -> str:
    if not (names := undrawable(words)):
        return ""
    return f"No font on this machine has all letters of {names[0]}: the picture shows their codes."
