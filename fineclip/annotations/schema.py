"""Which keys an entry of an annotation file has, and of which type their values are.

A check takes the value of a key and gives what is to be used for it: the very same object if the
file has it right, another one if it could be mended.
"""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fineclip.annotations.report import FileReport
from fineclip.paths import leaves_folder

_LARGEST = 2**53  # every integer below is a float as well


class Unfit(Exception):
    """A value that cannot be used; the message says what it should be ("four numbers")."""


@dataclass(frozen=True)
class Key:
    """A key of an entry.

    Attributes:
        name: The key.
        check: Takes its value, gives the one to use. Raises Unfit.
        required: Whether an entry without it is refused.
        nullable: Whether null is as good as a missing key.
        mended: What a report calls a value that ``check`` has changed; empty: it says from what.
    """

    name: str
    check: Callable[[Any], Any]
    required: bool = True
    nullable: bool = False
    mended: str = ""


def check_entry(
    entry: Any, keys: Sequence[Key], report: FileReport, list_name: str, index: int
) -> bool:
    """Checks one entry of a list and mends it in place.

    Args:
        entry: Any parsed JSON.
        keys: What is looked at.
        report: Receives what is wrong.
        list_name: What messages call the list ("annotations").
        index: Place in the list.

    Returns:
        Whether the entry can be used.
    """
    kind = list_name.rpartition(" ")[2]  # without the place of a list within a list
    if not isinstance(entry, dict):
        place = f"{list_name}[{index}]: expected a JSON object, got {type(entry).__name__}"
        report.add("refused", f"{kind}: an entry is no object", place)
        return False
    usable = True
    for key in keys:
        name = key.name
        if name not in entry:
            if key.required:
                place = f"{list_name}[{index}]: missing key {name!r}"
                report.add("refused", f"{kind}: missing key {name!r}", place)
                usable = False
            continue
        value = entry[name]
        if value is None and key.nullable:
            del entry[name]
            continue
        try:
            right = key.check(value)
        except Unfit as error:
            place = f"{list_name}[{index}]: {name!r} must be {error}, got {reprlib.repr(value)}"
            report.add("refused", f"{kind}: {name!r} must be {error}", place)
            usable = False
            continue
        if right is not value:
            reason = key.mended or f"{name} given as {type(value).__name__}, converted"
            report.add("mended", reason, f"{list_name}[{index}]")
            entry[name] = right
    return usable


def entries(data: Any, name: str, report: FileReport, *, required: bool = True) -> list[Any]:
    """A list of the file.

    Args:
        data: Content of the file.
        name: Key of the list.
        report: Receives what is wrong.
        required: Whether the list may be missing.

    Returns:
        The list, empty if there is none or something else.
    """
    if not isinstance(data, dict):
        reason = f"expected a JSON object, got {type(data).__name__}"
        if not report.count("refused", reason):
            report.add("refused", reason)
        return []
    if name not in data:
        if required:
            report.add("refused", f"missing key {name!r}: expected a file with the list {name!r}")
        return []
    found = data[name]
    if not isinstance(found, list):
        report.add("refused", f"{name}: expected a list, got {type(found).__name__}")
        return []
    return found


def numeric(value: str) -> int | None:
    """The integer that a string is the usual spelling of."""
    try:
        number = int(value)
    except ValueError:
        return None
    return number if str(number) == value else None


def integer(value: Any) -> int:
    """An integer."""
    if type(value) is int and abs(value) < _LARGEST:
        return value
    if type(value) is float and value.is_integer() and abs(value) < _LARGEST:
        return int(value)
    if type(value) is str and (found := numeric(value.strip())) is not None:
        return integer(found)
    raise Unfit("an integer")


def number(value: Any) -> float:
    """A finite number."""
    if (type(value) is float or type(value) is int) and -_LARGEST < value < _LARGEST:
        return value
    if type(value) is str and "_" not in value:
        try:
            found = float(value)
        except ValueError:
            found = math.nan
        if -_LARGEST < found < _LARGEST:
            return found
    raise Unfit("a number")


def side(value: Any) -> int:
    """Width or height of an image in pixels."""
    try:
        found = integer(value)
    except Unfit:
        found = 0
    if not 0 < found < 2**31:
        raise Unfit("a number of pixels from 1 on")
    return found


def area(value: Any) -> float:
    """An area in square pixels."""
    try:
        found = number(value)
    except Unfit:
        found = -1
    if found < 0:
        raise Unfit("a number from 0 on")
    return found


def box(value: Any) -> list[float]:
    """A box: x, y, width and height in pixels, no size negative."""
    try:
        right = [number(side) for side in value] if type(value) is list else []
    except Unfit:
        right = []
    if len(right) != 4:
        raise Unfit("four numbers x, y, width, height")
    if right[2] < 0 or right[3] < 0:
        raise Unfit("x, y, width, height without a negative size")
    return value if all(map(operator.is_, value, right)) else right


def flag(value: Any) -> int:
    """0 or 1."""
    if type(value) is int and value in (0, 1):
        return value
    if value is True or value is False or value in ("0", "1", 0.0, 1.0):
        return int(value)
    raise Unfit("0 or 1")


def identifier(value: Any) -> int | str:
    """An integer or a string that is not empty."""
    if type(value) is int and abs(value) < 2**63:
        return value
    if type(value) is str and value:
        return text(value)
    if type(value) is float and value.is_integer() and abs(value) < _LARGEST:
        return int(value)
    raise Unfit("an integer or a string")


def text(value: Any) -> str:
    """A string."""
    if type(value) is not str:
        raise Unfit("a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Unfit("a string of valid Unicode") from None
    return value


def name(value: Any) -> str:
    """A string that is not blank."""
    if type(value) is not str or not value.strip():
        raise Unfit("a non-empty string")
    return text(value)


def path(value: Any) -> str:
    """A file name that stays in its folder, with the separators of POSIX."""
    try:
        found = name(value)
    except Unfit:
        found = ""
    if not found or "\0" in found:
        raise Unfit("a file name")
    found = found.replace("\\", "/")
    if leaves_folder(found):
        raise Unfit("a file name that stays in the folder of its files")
    return found if found != value else value


def address(value: Any) -> str:
    """An address (``coco_url``) whose last two parts, a folder and a file, name the file."""
    found = name(value)
    path("/".join(found.split("/")[-2:]))
    return found


def list_of_integers(value: Any) -> list[int]:
    """A list of integers."""
    if type(value) is not list:
        raise Unfit("a list of integers")
    try:
        right = [integer(item) for item in value]
    except Unfit:
        raise Unfit("a list of integers") from None
    return value if all(map(operator.is_, value, right)) else right


def any_list(value: Any) -> list[Any]:
    """A list of whatever."""
    if type(value) is not list:
        raise Unfit("a list")
    return value


FILE_NAME = Key("file_name", path, mended="Windows separators in file_name")
