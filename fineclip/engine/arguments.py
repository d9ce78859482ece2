"""Arguments in a config, held against the signatures of the classes that will get them."""

from __future__ import annotations

import collections.abc
import inspect
import re
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import mmengine.registry
from mmengine.hooks import Hook
from mmengine.registry import Registry

import fineclip.registry
from fineclip.checks import is_number, nearest, shown
from fineclip.configuration.settings import sections
from fineclip.configuration.sources import PACKAGES

_CALL = re.compile(
    r"(?P<callee>\w+)(?:\.__init__)?\(\) (?P<what>got an unexpected keyword argument '(?P<key>\w+)'"
    r"|missing \d+ required .*|got multiple values for .*)"
)


def check_arguments(config: Mapping[str, Any]) -> None:
    """Checks what a config hands to classes and functions of this project.

    Their signatures are the schema: an argument they do not have is refused, and a plain value of
    another type than the annotation says. What they are made of (sizes, ranges) they check on
    their own. Arguments of other libraries' classes are left to these.

    Args:
        config: A finished config.

    Raises:
        ValueError: Naming key and class, with what is expected.
    """
    own = own_callables()
    for path, section in sections(config):
        kind = section.get("type")
        name = kind.rpartition(".")[2] if isinstance(kind, str) else ""
        if (callee := own.get(name)) is not None:
            _check_call(name, callee, section, ".".join(path))


def explain_build_error(error: Exception, config: Mapping[str, Any]) -> str:
    """One line about what came up while a config's objects were built.

    Args:
        error: What was raised.
        config: The finished config.
    """
    text = " ".join(str(error.args[0] if error.args else error).split())
    if found := _CALL.search(text):
        where = _holder_of(found["key"], config) if found["key"] else None
        return f"{f'{where}: ' if where else ''}{found['callee']} {found['what']}"
    if found := re.search(r"(\S+) is not in the (\S+) registry", text):
        holder = next((p for p, s in sections(config) if s.get("type") == found[1]), ())
        return f"{'.'.join((*holder, 'type'))}: there is no class {found[1]!r} among {found[2]}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


def _holder_of(key: str, config: Mapping[str, Any]) -> str | None:
    return next(
        (".".join((*path, key)) for path, section in sections(config) if key in section), None
    )


def own_callables() -> dict[str, Callable[..., Any]]:
    """Registered classes and functions of this project by name."""
    todo = [
        value
        for module in (mmengine.registry, fineclip.registry)
        for value in vars(module).values()
        if isinstance(value, Registry)
    ]
    found: dict[str, Callable[..., Any]] = {}
    while todo:
        registry = todo.pop()
        todo.extend(registry.children.values())
        if registry.scope == "fineclip":
            registry.import_from_location()
        for name, item in registry.module_dict.items():
            if _is_own(item):
                found[name] = item
    return found


def _is_own(item: Any) -> bool:
    return getattr(item, "__module__", "").split(".")[0] in PACKAGES


def _check_call(
    name: str, callee: Callable[..., Any], arguments: Mapping[str, Any], where: str
) -> None:
    parameters = inspect.signature(callee).parameters
    is_open = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    try:
        hints = get_type_hints(callee.__init__ if inspect.isclass(callee) else callee)
    except Exception:  # of another library's constructor, or names for type checkers alone
        hints = {}
    for key, value in arguments.items():
        if key in ("type", "_scope_") or (key == "priority" and _is_hook(callee)):
            continue
        if key not in parameters:
            if is_open:
                continue
            known = [k for k in parameters if k != "self"]
            raise ValueError(f"{where}.{key}: {name} has no such argument; {nearest(key, known)}")
        hint = hints.get(key, Any)
        if not _fits(value, hint):
            raise ValueError(f"{where}.{key}: {name} expects {_in_words(hint)}, got {shown(value)}")
        if isinstance(value, Mapping) and "type" not in value:
            for part in _own_classes(hint):
                _check_call(part.__name__, part, value, f"{where}.{key}")


def _is_hook(callee: Callable[..., Any]) -> bool:
    return inspect.isclass(callee) and issubclass(callee, Hook)


def _own_classes(hint: Any) -> Iterator[type]:
    """Classes of this project that a dict of arguments stands for: of ``Class | Mapping | None``.

    Where text or a list would do as well, a dict is something else (a vocabulary).
    """
    parts = [part for part in get_args(hint) if part is not type(None)]
    kinds = [get_origin(part) or part for part in parts]
    if any(kind in (str, Path, collections.abc.Sequence) for kind in kinds):
        return
    for part in parts:
        if inspect.isclass(part) and _is_own(part) and not getattr(part, "_is_protocol", False):
            yield part


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is what an annotation says; what is no plain type accepts anything."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in arguments)
    if origin is Literal:
        return any(type(value) is type(word) and value == word for word in arguments)
    base = origin or hint
    if base in (None, type(None)):
        return value is None
    if base is bool:
        return isinstance(value, bool)
    if base is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if base is float:
        return is_number(value) or value in (float("inf"), float("-inf"))
    if base in (str, Path):
        return isinstance(value, str | Path)
    if base in (dict, collections.abc.Mapping):
        return isinstance(value, Mapping)
    if base is tuple:
        return _fits_tuple(value, arguments)
    if base in (list, collections.abc.Sequence, collections.abc.Collection):
        item = arguments[0] if arguments else Any
        return isinstance(value, list | tuple) and all(_fits(entry, item) for entry in value)
    if inspect.isclass(base):  # built from a dict before it is handed over
        return isinstance(value, Mapping) or _is_instance(value, base)
    return True


def _fits_tuple(value: Any, items: tuple[Any, ...]) -> bool:
    if not isinstance(value, list | tuple):
        return False
    if not items or items[-1] is Ellipsis:
        return all(_fits(entry, items[0] if items else Any) for entry in value)
    return len(value) == len(items) and all(map(_fits, value, items))


def _is_instance(value: Any, base: type) -> bool:
    try:
        return isinstance(value, base)
    except TypeError:  # a protocol that is not checked at run time
        return True


def _in_words(hint: Any) -> str:
    names = {
        bool: "True or False",
        int: "an integer",
        float: "a number",
        str: "text",
        Path: "a path",
    }
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_in_words, get_args(hint))))
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    if hint in (None, type(None)):
        return "None"
    base = get_origin(hint) or hint
    if base in (dict, collections.abc.Mapping):
        return "a dict"
    if base in (list, tuple, collections.abc.Sequence, collections.abc.Collection):
        items = [_in_words(item) for item in get_args(hint) if item is not Ellipsis]
        return f"a list of {' and '.join(dict.fromkeys(items)) or 'items'}"
    return names.get(base, f"a dict of {getattr(base, '__name__', base)}'s arguments")
