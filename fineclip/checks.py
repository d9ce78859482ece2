"""What a plain value must be, said once and in words: settings of a config, entries of a JSON file.

A :class:`Check` is data. Tables of them say what a reader expects, and every refusal reads alike:
where the value stands, what was expected, what was found.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

LARGEST = 2**31 - 1
"""Of a count: what C libraries still take."""

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60


@dataclass(frozen=True)
class Check:
    """What a value must be.

    Attributes:
        expected: In words, as after "expected".
        accepts: Whether a value is that.
    """

    expected: str
    accepts: Callable[[Any], bool]

    def require(self, value: Any, where: str) -> None:
        """Refuses another value.

        Raises:
            ValueError: Naming the place, what was expected and what was found.
        """
        if not self.accepts(value):
            raise ValueError(f"{where}: expected {self.expected}, got {shown(value)}")


def integer_from(minimum: int, maximum: int = LARGEST) -> Check:
    """An integer of a range; ``True`` and ``1.0`` are none."""
    words = f"an integer from {minimum} on"
    if maximum != LARGEST:
        words = f"an integer from {minimum} to {maximum}"
    return Check(words, lambda value: _is_integer(value) and minimum <= value <= maximum)


def real(minimum: float = -math.inf, maximum: float = math.inf, *, above: bool = False) -> Check:
    """A finite number of a range; with ``above``, the minimum itself is too small."""
    words = "a finite number"
    if minimum > -math.inf and maximum < math.inf:
        words = f"a number from {minimum:g} to {maximum:g}"
    elif minimum > -math.inf:
        words = f"a number above {minimum:g}" if above else f"a number from {minimum:g} on"

    def accepts(value: Any) -> bool:
        if not is_number(value) or not minimum <= value <= maximum:
            return False
        return not (above and value == minimum)

    return Check(words, accepts)


def one_of(*words: Any) -> Check:
    """One of these values."""
    return Check(
        " or ".join(map(repr, words)),
        lambda value: any(value is w or _same(value, w) for w in words),
    )


def list_of(item: Check, length: int | None = None) -> Check:
    """A list or tuple of such items, of a certain length if one is given."""
    words = "a list, each item " if length is None else f"a list of {length}, each "

    def accepts(value: Any) -> bool:
        if not isinstance(value, list | tuple) or (length is not None and len(value) != length):
            return False
        return all(map(item.accepts, value))

    return Check(f"{words}{item.expected}", accepts)


def table(item: Check) -> Check:
    """A dict from strings to such items."""

    def accepts(value: Any) -> bool:
        return isinstance(value, Mapping) and all(
            isinstance(key, str) and item.accepts(entry) for key, entry in value.items()
        )

    return Check(f"a dict, each value {item.expected}", accepts)


def either(*checks: Check) -> Check:
    """What one of the checks accepts."""
    return Check(
        " or ".join(check.expected for check in checks),
        lambda value: any(check.accepts(value) for check in checks),
    )


NOTHING = Check("None", lambda value: value is None)
FLAG = Check("True or False", lambda value: isinstance(value, bool))
# Text with a null character is the name of nothing.
ANY_TEXT = Check("text", lambda value: isinstance(value, str | Path) and "\0" not in str(value))
TEXT = Check(
    "text that is not empty",
    lambda value: ANY_TEXT.accepts(value) and bool(str(value).strip()),
)
OBJECT = Check("a dict", lambda value: isinstance(value, Mapping))


def check_entries(
    data: Any, checks: Mapping[str, Check], where: str, optional: Collection[str] = ()
) -> None:
    """Checks the entries of one object of a JSON file; it may have others.

    Args:
        data: Any parsed JSON.
        checks: What each entry must be.
        where: File and place, for the message.
        optional: Entries that may be missing.

    Raises:
        ValueError: It is no object, lacks an entry or has one of another kind.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected a JSON object, got {shown(data)}")
    for key, check in checks.items():
        if key in data:
            check.require(data[key], f"{where}: key {key!r}")
        elif key not in optional:
            raise ValueError(f"{where}: missing key {key!r}")


def is_number(value: Any) -> bool:
    """Whether a value is a finite int or float; ``True`` is no number."""
    try:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        )
    except OverflowError:  # an integer beyond all floats
        return False


def shown(value: Any) -> str:
    """A value in one short line, for messages."""
    return " ".join(_REPR.repr(value).split())


def nearest(word: str, known: Collection[str], most: int = 12) -> str:
    """The end of a message about an unknown word: the likeliest of the known ones, else some.

    Returns:
        ``"did you mean ...?"`` or ``"known: ..."``.
    """
    if found := get_close_matches(word, known, n=1):
        return f"did you mean {found[0]}?"
    names: Sequence[str] = sorted(known)
    rest = f", and {len(names) - most} more" if len(names) > most else ""
    return f"known: {', '.join(names[:most]) or 'none'}{rest}"


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _same(value: Any, word: Any) -> bool:
    return type(value) is type(word) and value == word
