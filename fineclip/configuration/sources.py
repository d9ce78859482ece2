"""What source files say, read without running them: a library takes seconds to import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PACKAGES = ("fineclip", "detection")
"""Whose classes configs name, and whose signatures are held against them."""


def package_folder(name: str) -> Path | None:
    """Where an installed package lies; None: it is not installed."""
    spec = find_spec(name)  # of a package without dots: nothing is imported
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def assigned_defaults(file: Path, root: str) -> dict[str, Any]:
    """Defaults that a file sets as attributes of a variable (``_C.SOLVER.BASE_LR = 0.001``).

    Args:
        file: A Python file.
        root: The variable.

    Returns:
        Dicts in dicts. A value that is no literal is None; a call makes a dict.
    """
    found: dict[str, Any] = {}
    for statement in _parsed(file).body:
        if not isinstance(statement, ast.Assign):
            continue
        start, *names = ast.unparse(statement.targets[0]).split(".")
        if start != root or not names:
            continue
        node = found
        for name in names[:-1]:
            node = node.setdefault(name, {})
        value = statement.value
        if isinstance(value, ast.Call):
            node[names[-1]] = _literal(value.args[0]) if value.args else {}
        else:
            node[names[-1]] = _literal(value)
    return found


def assigned_tables(file: Path) -> Iterator[dict[str, Any]]:
    """The dicts of literals that a file assigns to variables."""
    for statement in _parsed(file).body:
        if isinstance(statement, ast.AnnAssign | ast.Assign) and statement.value is not None:
            value = _literal(statement.value)
            if isinstance(value, dict):
                yield value


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


@dataclass(frozen=True)
class Signature:
    """What a class or function takes.

    Attributes:
        parameters: Its names, and for each the alternatives that its annotation names.
        is_open: Whether it takes any name, or what it takes cannot be told from its source.
    """

    parameters: dict[str, frozenset[str]] = field(default_factory=dict)
    is_open: bool = False


@cache
def signatures(package: str) -> dict[str, Signature]:
    """What the classes and functions that a package registers take, by name.

    With them, what the classes take that their annotations name.
    """
    folder = package_folder(package)
    nodes: dict[str, ast.ClassDef | ast.FunctionDef] = {}
    registered: dict[str, ast.ClassDef | ast.FunctionDef] = {}
    for file in sorted(folder.rglob("*.py")) if folder else []:
        for node in _parsed(file).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                nodes[node.name] = node
                registered |= dict.fromkeys(_registered_as(node), node)
    nodes |= registered
    found: dict[str, Signature] = {}
    todo = sorted(registered)
    while todo:
        name = todo.pop()
        if name not in found and name in nodes:
            found[name] = _signature(nodes[name], nodes)
            todo += [kind for kinds in found[name].parameters.values() for kind in kinds]
    return found


def _registered_as(node: ast.ClassDef | ast.FunctionDef) -> Iterator[str]:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).endswith("_module"):
            given = {keyword.arg: _literal(keyword.value) for keyword in decorator.keywords}
            yield given.get("name") or node.name


def class_signature(file: Path, name: str) -> Signature | None:
    """What a class of a file takes; None: there is no such file, or no such class in it."""
    if not file.is_file():
        return None
    nodes = {node.name: node for node in _parsed(file).body if isinstance(node, ast.ClassDef)}
    return _signature(nodes[name], dict(nodes)) if name in nodes else None


def _signature(
    node: ast.ClassDef | ast.FunctionDef, others: dict[str, ast.ClassDef | ast.FunctionDef]
) -> Signature:
    if isinstance(node, ast.FunctionDef):
        return _of_function(node)
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _of_function(item)
    parameters: dict[str, frozenset[str]] = {}
    for base in map(ast.unparse, node.bases):
        if base not in others:
            return Signature(is_open=True)  # another library's
        inherited = _signature(others[base], others)
        if inherited.is_open:
            return inherited
        parameters |= inherited.parameters
    if any(ast.unparse(d).startswith("dataclass") for d in node.decorator_list):
        for item in node.body:
            if isinstance(item, ast.AnnAssign):
                parameters[ast.unparse(item.target)] = _names(item.annotation)
    return Signature(parameters)


def _of_function(node: ast.FunctionDef) -> Signature:
    arguments = node.args
    names = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return Signature(
        {a.arg: _names(a.annotation) for a in names if a.arg != "self"}, bool(arguments.kwarg)
    )


def _names(annotation: ast.expr | None) -> frozenset[str]:
    """``A | dict[str, B] | None``: A, dict, None."""
    if isinstance(annotation, ast.BinOp):
        return _names(annotation.left) | _names(annotation.right)
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.value
    return frozenset([ast.unparse(annotation)] if annotation is not None else [])


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())
