"""Words of captions whose text embeddings are close to a category's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fineclip.annotation.coverage import Coverage, words_of_text
from fineclip.models.class_embeddings import TextEncoder, build_class_embeddings

NEAR = 0.9
"""Cosine from which on a word is near. Our choice: CLIPs differ, so look at the words first."""

_SHOWN = 3
_AT_ONCE = 256  # categories; a block of cosines is kept in memory


def add_near_words(
    coverage: Coverage,
    words: Sequence[str],
    clip: TextEncoder,
    *,
    near: float = NEAR,
    templates: str = "photo",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Notes the nearest words of each category, those that are part of its name left out.

    Args:
        coverage: Changed in place.
        words: Of the captions.
        clip: Embeds words and names, as "a photo of a ...".
        near: Cosine that a word must have.
        templates: Prompts of both.
        progress: Called with (texts done, texts in all).
    """
    if not words:
        return
    names = coverage.vocabulary.prompt_names
    known = build_class_embeddings(clip, words, templates, progress=progress)
    asked = build_class_embeddings(clip, names, templates, progress=progress)
    for start in range(0, len(names), _AT_ONCE):
        cosines = asked[start : start + _AT_ONCE] @ known.T
        best, places = cosines.topk(min(len(words), _SHOWN + 5), dim=1)
        for row, category in enumerate(coverage.categories[start : start + _AT_ONCE]):
            own = set(words_of_text(names[start + row]))
            pairs = zip(best[row].tolist(), places[row].tolist(), strict=True)
            found = [(words[place], cosine) for cosine, place in pairs if cosine >= near]
            category.near = [pair for pair in found if pair[0] not in own][:_SHOWN]
