"""Reads a tree of Python packages as a house: rooms on floors, and who imports whom.

All functions take the root folder, so that the rules can be tried on a made-up tree.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One import of an own module.

    Attributes:
        line: Where it stands.
        target: The module: ``a.b`` for ``from a.b import name``, ``a.b.c`` if that is a module.
        when: "load" if it runs when the module is loaded, "call" in a function, "types" if it is
            for type checkers alone.
        explained: Whether a comment stands on its lines.
    """

    line: int
    target: str
    when: str
    explained: bool


class House:
    """The own modules below a root, and their imports.

    Args:
        root: Holds the packages as folders.
        packages: Their names; a folder of scripts (``tools``) is one, too.
    """

    def __init__(self, root: Path, packages: Sequence[str]) -> None:
        self.files = {
            module_name(file.relative_to(root)): file
            for package in packages
            for file in sorted((root / package).rglob("*.py"))
        }
        self.packages = frozenset(packages)
        self.trees = {name: ast.parse(file.read_text("utf-8")) for name, file in self.files.items()}
        self.imports = {name: list(self._imports(name)) for name in self.files}

    def _imports(self, module: str) -> Iterator[Import]:
        explained = lines_with_comment(self.files[module].read_text("utf-8"))
        for node, when in _with_circumstances(self.trees[module]):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                start = self._start_of(module, node)
                inner = [f"{start}.{alias.name}" for alias in node.names]
                names = [name if name in self.files else start for name in inner]
            else:
                continue
            lines = range(node.lineno, node.end_lineno + 1)
            for name in dict.fromkeys(names):
                if name.split(".")[0] in self.packages:
                    yield Import(node.lineno, name, when, not explained.isdisjoint(lines))

    def _start_of(self, module: str, node: ast.ImportFrom) -> str:
        """The absolute name behind ``from``."""
        if not node.level:
            return node.module
        parts = module.split(".")
        if self.files[module].name == "__init__.py":
            parts.append("")
        return ".".join([*parts[: -node.level], *([node.module] if node.module else [])])


def module_name(file: Path) -> str:
    """``a/b.py`` and ``a/b/__init__.py`` -> ``a.b``."""
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


def lines_with_comment(source: str) -> set[int]:
    """Lines whose comment says more than what a linter should overlook."""
    return {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and re.sub(r"noqa(: *[A-Z]+\d+)*|[#\s]", "", token.string)
    }


def _with_circumstances(node: ast.AST, when: str = "load") -> Iterator[tuple[ast.AST, str]]:
    """All nodes of a tree, each with when it is run."""
    for child in ast.iter_child_nodes(node):
        inner = when
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inner = "call"
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            inner = "types"
        yield child, when
        yield from _with_circumstances(child, inner)


def room_of(module: str, floors: Sequence[Mapping[str, str]]) -> tuple[str, int] | None:
    """The room that a module is in, by the longest name on the map, and its floor.

    ``fineclip`` is no room for what lies in folders below it: each of these is on the map itself.
    """
    rooms = {room: number for number, floor in enumerate(floors) for room in floor}
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        room = ".".join(parts[:end])
        if room in rooms:
            divided = any(other.startswith(f"{room}.") for other in rooms)
            return None if divided and end < len(parts) else (room, rooms[room])
    return None


def not_on_the_map(house: House, floors: Sequence[Mapping[str, str]]) -> list[str]:
    """Modules without a room."""
    return sorted(module for module in house.files if room_of(module, floors) is None)


def imports_not_downwards(house: House, floors: Sequence[Mapping[str, str]]) -> list[str]:
    """Imports of a room on the same floor or above, wherever in a module they stand."""
    found = []
    for module, imports in house.imports.items():
        here = room_of(module, floors)
        for item in imports:
            there = room_of(item.target, floors)
            if here and there and here[0] != there[0] and there[1] >= here[1]:
                found.append(
                    f"{module}:{item.line} (floor {here[1]}) imports {item.target} "
                    f"(floor {there[1]})"
                )
    return found


def circles(house: House) -> list[str]:
    """Groups of modules that cannot be loaded one after the other, as ``a, b, c``."""
    edges = {
        module: {i.target for i in imports if i.when == "load" and i.target in house.files}
        for module, imports in house.imports.items()
    }
    reached = {module: _reachable(module, edges) for module in edges}
    groups = {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in edges
        if module in reached[module]
    }
    return sorted(", ".join(sorted(group)) for group in groups)


def _reachable(start: str, edges: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = [start]
    while todo:
        new = edges[todo.pop()] - seen
        seen |= new
        todo.extend(new)
    return seen


def unexplained_late_imports(house: House) -> list[str]:
    """Imports of own modules in a function without the reason in a comment on their line."""
    return [
        f"{module}: {item.target}"
        for module, imports in house.imports.items()
        for item in imports
        if item.when == "call" and not item.explained
    ]


def logic_in_tools(house: House, folder: str, longest: int, longest_main: int) -> list[str]:
    """What a tool should find in a package: classes, and functions that are more than glue.

    Args:
        house: With the tools.
        folder: Of the tools.
        longest: Lines that a function may have; ``parse_args`` may have any number.
        longest_main: Lines that ``main`` may have.
    """
    found = []
    for module, tree in house.trees.items():
        if module.split(".")[0] != folder:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                found.append(f"{module}: class {node.name}")
            elif isinstance(node, ast.FunctionDef) and node.name != "parse_args":
                limit = longest_main if node.name == "main" else longest
                if node.end_lineno - node.lineno + 1 > limit:
                    found.append(f"{module}: {node.name}")
    return found


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def names_defined_twice(house: House) -> dict[str, list[str]]:
    """Public functions and classes of one name, with the modules that define them."""
    found: dict[str, list[str]] = {}
    for module, tree in house.trees.items():
        for node in tree.body:
            if isinstance(node, _DEFINITIONS) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(module)
    return {name: modules for name, modules in found.items() if len(modules) > 1}


def names_that_start_with(house: House, *starts: str) -> set[str]:
    """Functions, methods and classes, as ``module: name``."""
    return {
        f"{module}: {node.name}"
        for module, tree in house.trees.items()
        for node in ast.walk(tree)
        if isinstance(node, _DEFINITIONS) and node.name.startswith(starts)
    }
