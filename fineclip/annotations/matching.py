"""Ids: which are used by what, as which type, and whether anything has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fineclip.annotations.report import FileReport
from fineclip.annotations.schema import numeric


def convert_ids(
    owners: Sequence[Any], users: Sequence[Any], user_key: str, report: FileReport
) -> None:
    """Makes numbers of ids that are numbers written as strings, everywhere in the file or nowhere.

    Args:
        owners: Entries that have the ids as ``id``; may be none. Changed in place.
        users: Entries that refer to them. Changed in place.
        user_key: The key they do it with.
        report: Receives what was mended.
    """
    lists = ((owners, "id"), (users, user_key))
    found = (
        (entry, key)
        for entries, key in lists
        for entry in entries
        if isinstance(entry, dict) and key in entry
    )
    first = next(found, None)
    if first is None or type(first[0][first[1]]) is not str:
        return
    strings = [first, *found]
    numbers = []
    for entry, key in strings:
        value = entry[key]
        number = numeric(value) if type(value) is str else None
        if number is None:
            return
        numbers.append(number)
    for (entry, key), number in zip(strings, numbers, strict=True):
        entry[key] = number
    report.add("mended", f"{user_key} given as str, converted", count=len(strings))


def by_id(
    found: Sequence[tuple[int, Mapping[str, Any]]], list_name: str, report: FileReport
) -> dict[Any, int]:
    """Places of entries by their ids.

    Args:
        found: Place and entry, the entries checked.
        list_name: What messages call the list.
        report: Receives ids that two entries have.

    Returns:
        The place of the first entry of each id.
    """
    places: dict[Any, int] = {}
    for index, entry in found:
        first = places.setdefault(entry["id"], index)
        if first != index:
            report.add(
                "refused",
                f"{list_name}: two entries with one id",
                f"{list_name}[{first}] and {list_name}[{index}] have the same id {entry['id']!r}",
            )
    return places


def refuse_unmatched(
    key: str,
    value: Any,
    places: Mapping[Any, int],
    owners: str,
    place: str,
    report: FileReport,
) -> None:
    """Reports an id that nothing has.

    Args:
        key: The key that holds it.
        value: The id.
        places: Places of the entries that have ids.
        owners: The list that these are in ("images").
        place: Entry that refers to it.
        report: Receives it.
    """
    other = str(value) if isinstance(value, int) else numeric(value)
    if other is not None and other in places:
        kinds = ("string", "number") if isinstance(value, str) else ("number", "string")
        text = (
            f"{place}: {key} {value!r} is a {kinds[0]}, {owners}[{places[other]}] has the id "
            f"{other!r}, a {kinds[1]}"
        )
    elif owners == "categories":
        text = f"{place}: {key} {value!r} is not among the file's categories"
    else:
        text = f"{place}: {key} {value!r} is not among '{owners}'"
    report.add("refused", f"{key} that matches nothing in '{owners}'", text)
