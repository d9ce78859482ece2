"""Keys of nested defaults, set one by one from words of a command line."""

from __future__ import annotations

import ast
from typing import Any

from fineclip.checks import nearest, shown


def override(defaults: dict[str, Any], key: str, word: Any) -> None:
    """Sets one key, whose value has to be of the type that it has.

    Args:
        defaults: Dicts in dicts, such as a ``CfgNode``; changed in place. None takes anything.
        key: Dotted.
        word: The value; text is read as Python's literals where it is one.

    Raises:
        ValueError: There is no such key, or the value is of another type.
    """
    where = f"option {key}"
    *sections, name = key.split(".")
    node: Any = defaults
    parent = defaults
    for depth, part in enumerate((*sections, name)):
        if not isinstance(node, dict):
            raise ValueError(f"{where}: {'.'.join(sections[:depth])} is a value, it has no parts")
        if part not in node:
            place = f"in {'.'.join(sections[:depth])}" if depth else "at the top"
            raise ValueError(f"{where}: there is no {part} {place}; {nearest(part, node)}")
        parent, node = node, node[part]
    if isinstance(node, dict):
        raise ValueError(f"{where} is a section; name one of its keys: {', '.join(node)}")
    value = _decoded(word)
    if isinstance(node, float) and type(value) is int:
        value = float(value)
    fits = type(value) is type(node) or {type(value), type(node)} == {list, tuple}
    empty = value is None and isinstance(node, str)
    if not (fits or empty or node is None):
        expected = f"{type(node).__name__} such as {node!r}"
        raise ValueError(f"{where}: expected {expected}, got {shown(value)}")
    parent[name] = type(node)(value) if isinstance(node, list | tuple) else value


def _decoded(word: Any) -> Any:
    if not isinstance(word, str):
        return word
    try:
        return ast.literal_eval(word)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # plain text
        return word
