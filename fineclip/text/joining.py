"""Several vocabularies as one."""

from __future__ import annotations

from dataclasses import replace

from fineclip.text.templates import prompt_name
from fineclip.text.vocabulary import Category, Vocabulary


def joined_vocabulary(first: Vocabulary, second: Vocabulary) -> Vocabulary:
    """The classes of one vocabulary, then those of another that it lacks.

    Args:
        first: Classes without a split are base classes: they have labels.
        second: A class that reads in prompts as one of ``first`` is that one; classes without a
            split are base classes as well.

    Returns:
        A vocabulary without ids: annotation files of either have their own. What either leaves out
        is left out, unless the other has it.
    """
    categories = [_in_common(category) for category in first.categories]
    known = {reading_of(category) for category in categories}
    for category in second.categories:
        if reading_of(category) not in known:
            known.add(reading_of(category))
            categories.append(_in_common(category))
    unused = [c for c in (*first.unused, *second.unused) if reading_of(c) not in known]
    return Vocabulary(
        f"{first.name}+{second.name}",
        tuple(categories),
        unused=tuple(replace(category, id=None) for category in unused),
    )


def _in_common(category: Category) -> Category:
    return replace(category, id=None, split=category.split or "base")


def reading_of(category: Category) -> str:
    """How a class reads in prompts; two that read the same are one."""
    return " ".join(prompt_name(category.prompt_name).split())
