"""The words after ``--cfg-options``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from fineclip.checks import shown

OPTION = "--cfg-options"


class OverridesAction(argparse.Action):
    """The words after ``--cfg-options``, see :func:`parse_overrides`."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        """Adds to what earlier ones gave."""
        known = getattr(namespace, self.dest, None) or {}
        try:
            setattr(namespace, self.dest, {**known, **parse_overrides(values)})
        except ValueError as error:
            raise argparse.ArgumentError(self, str(error)) from None


def parse_overrides(words: Iterable[str]) -> dict[str, Any]:
    """Reads ``KEY=VALUE`` words.

    A value is a number, ``True``, ``False``, ``None``, text, or a list of such: ``[1,2]``,
    ``(1,2)`` or ``1,2``. Text keeps its spaces.

    Raises:
        ValueError: A word is no ``KEY=VALUE``, or the brackets of a value do not match.
    """
    from mmengine.config import DictAction  # half a second, which --help need not take

    options: dict[str, Any] = {}
    for word in words:
        key, text = split_override(word)
        try:
            # mmengine's reader of lists drops all spaces.
            if "," in text or text[:1] in ("(", "["):
                options[key] = DictAction._parse_iterable(text)
            else:
                options[key] = DictAction._parse_int_float_bool(text.strip("'\""))
        except AssertionError:
            raise ValueError(f"{key}: brackets of {shown(text)} do not match") from None
        except RecursionError:
            raise ValueError(f"{key}: too many brackets within each other") from None
    return options


def split_override(word: str) -> tuple[str, str]:
    """Key and text of a ``KEY=VALUE`` word.

    Raises:
        ValueError: It is none.
    """
    key, equals, text = word.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"expected KEY=VALUE, got {shown(word)}")
    return key, text
