"""The classes that the description of a data set lists, as a vocabulary has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fineclip.checks import shown


def categories_of(data: Any, where: str) -> dict[str, Any]:
    """Reads the classes of a data set's description.

    Args:
        data: What the file holds: ``classes``, a list in label order of names or of ``{name:
            synonym or list of synonyms}``; perhaps ``novel``, names among them that training must
            not see labelled; other keys are not looked at.
        where: File, for messages.

    Returns:
        What :meth:`fineclip.text.Vocabulary.from_dict` takes. Where ``novel`` is given, every class
        has a split.

    Raises:
        ValueError: No such list, an entry that is no name, a novel class that is not listed or all
            of them novel.
    """
    if isinstance(data, Mapping) and "names" in data and "classes" not in data:
        raise ValueError(
            f"{where} lists its classes under 'names', as YOLO's files do; tools/import_data.py "
            "SRC OUT --from yolo makes a data set of it, with a data.yaml of its own"
        )
    if not isinstance(data, Mapping) or "classes" not in data:
        raise ValueError(f"{where}: missing key 'classes', the list of class names")
    entries = data["classes"]
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise ValueError(
            f"{where}: classes: expected a list of names in label order, got {shown(entries)}"
        )
    categories = [_category(entry, f"{where}: classes[{i}]") for i, entry in enumerate(entries)]
    novel = _novel(data.get("novel"), [c["name"] for c in categories], where)
    if novel:
        for category in categories:
            category["split"] = "novel" if category["name"] in novel else "base"
    return {"categories": categories}


def _category(entry: Any, where: str) -> dict[str, Any]:
    if isinstance(entry, Mapping):
        if len(entry) != 1:
            raise ValueError(
                f"{where}: expected one name with its synonyms, 'name: [synonym, ...]', got "
                f"{shown(dict(entry))}"
            )
        ((entry, synonyms),) = entry.items()
    else:
        synonyms = None
    name = _name(entry, where)
    if synonyms is None:
        return {"name": name}
    if isinstance(synonyms, str):
        synonyms = [synonyms]
    if not isinstance(synonyms, Sequence):
        raise ValueError(f"{where}: expected a list of synonyms of {name!r}, got {shown(synonyms)}")
    # A vocabulary lists all names of a class, its own first.
    others = [_name(synonym, f"{where}: synonyms of {name!r}") for synonym in synonyms]
    return {"name": name, "synonyms": list(dict.fromkeys([name, *others]))}


def _name(value: Any, where: str) -> str:
    if isinstance(value, str) and value.strip():
        return value
    hint = (
        '; YAML takes no, off, 1 and the like for other things than words: quote it, "no"'
        if isinstance(value, bool | int | float)
        else ""
    )
    raise ValueError(f"{where}: expected a name, got {shown(value)}{hint}")


def _novel(value: Any, names: Sequence[str], where: str) -> set[str]:
    if value is None:
        return set()
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ValueError(f"{where}: novel: expected a list of class names, got {shown(value)}")
    novel = [_name(name, f"{where}: novel[{i}]") for i, name in enumerate(value)]
    if unknown := [name for name in novel if name not in names]:
        raise ValueError(
            f"{where}: novel: {unknown[0]!r} is not among the classes, which are "
            f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
        )
    if len(set(novel)) == len(names):
        raise ValueError(f"{where}: novel: all classes are novel, so there is none to train on")
    return set(novel)
