"""Which classes of a test vocabulary a model was trained with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fineclip.text.templates import prompt_name


def seen_classes(names: Sequence[str], training_names: Iterable[str]) -> tuple[bool, ...]:
    """Finds the names that belong to the training vocabulary.

    Names are compared as they read in prompts (:func:`fineclip.text.templates.prompt_name`),
    without space around them. Of a list of synonyms, "sofa, couch, lounge", one in common is
    enough: a class counts as unseen only if the model was trained with none of its names.

    Args:
        names: K class names.
        training_names: Names trained with.

    Returns:
        K times whether the class was seen.
    """
    trained = {synonym for name in training_names for synonym in readings(name)}
    return tuple(not trained.isdisjoint(readings(name)) for name in names)


def readings(name: str) -> set[str]:
    """How each synonym of a class, "sofa, couch, lounge", reads in prompts."""
    return {prompt_name(synonym).strip() for synonym in name.split(", ")}
