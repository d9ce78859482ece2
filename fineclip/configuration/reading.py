"""Reading a config with command line overrides: all that can be told without torch."""

from __future__ import annotations

import ast
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config

from fineclip.checks import nearest, shown
from fineclip.configuration.overrides import OPTION
from fineclip.configuration.plain import read_plain_config
from fineclip.configuration.settings import VARIABLES, checks_of, sections


def read_config(path: str | Path, options: dict[str, Any] | None = None) -> Config:
    """Reads an mmengine config and applies overrides.

    A variable that a config assigns at top level (``model_name = "EVA02-B-16"``) also replaces
    the variable of that name in its bases, before they are evaluated: whatever they compute from
    it follows. A derived config is then little more than a list of variables. mmengine's own
    ``Config.fromfile`` would change the variable alone; ``...`` as the value in a base marks those
    that a derived config has to set, and makes such a config unusable rather than wrong.

    Overrides without dots (``data_root``, ``batch_size``) replace variables in the same way.
    Keys with dots (``model.clip.name``) are merged into the finished config, as mmengine does.

    Args:
        path: A Python config file, which is run, or the ``plain_config.json`` of a training, which
            is read (:mod:`fineclip.configuration.plain`).
        options: Overrides by key.

    Variables and settings are held against :mod:`fineclip.configuration.settings`. Nothing that
    the config names is imported, so that a mistake is told at once.

    Raises:
        FileNotFoundError: The config does not exist.
        ValueError: The config cannot be evaluated, or a key is unknown or has a value that makes
            no sense.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"config {path} does not exist")
    options = dict(options or {})
    for key, value in options.items():
        _refuse_nan(key, value)
        if key in VARIABLES:
            VARIABLES[key].require(value, f"{OPTION} {key}")
    if path.suffix == ".json":
        config = read_plain_config(path)
        _override(config, options, options, path)
        return config
    with naming_config(path):
        trees = _read_chain(path.resolve())
    assigned: dict[str, ast.Assign] = {}
    for tree in trees.values():
        assigned |= _assignments(tree)
    assigned.pop("_base_", None)
    variables = {key: value for key, value in options.items() if key in assigned}
    for key, value in variables.items():
        if key not in VARIABLES and _is_dict(assigned[key].value):
            _require_dict(key, value)
    with naming_config(path):
        config = _evaluate(path.resolve(), trees, variables)
    merged = {key: value for key, value in options.items() if key not in variables}
    _override(config, options, merged, path)
    return config


def top_level_values(path: str | Path) -> dict[str, Any]:
    """The variables of a config and its bases, as they are written.

    Args:
        path: A Python config file, or the ``plain_config.json`` of a training.

    Returns:
        By name; ``...`` where it is no literal.

    Raises:
        FileNotFoundError: The config does not exist.
        ValueError: It cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"config {path} does not exist")
    if path.suffix == ".json":
        return dict(read_plain_config(path)._cfg_dict.to_dict())
    found: dict[str, Any] = {}
    with naming_config(path):
        for tree in _read_chain(path.resolve()).values():
            for name, statement in _assignments(tree).items():
                if name not in found and name != "_base_":
                    found[name] = _literal(statement.value)
    return found


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ...


def _override(
    config: Config, options: Mapping[str, Any], merged: dict[str, Any], path: Path
) -> None:
    """Puts overrides into a finished config, and checks all that it says.

    Args:
        config: Changed in place.
        options: All overrides.
        merged: Those that are not in it yet.
        path: Of the config, for messages.
    """
    for key, value in options.items():
        _require_key(config, key, value, path)
    try:
        config.merge_from_dict(merged)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{OPTION} {' '.join(options)}: they do not go together ({error})"
        ) from error
    _check(config, options, path)


@contextmanager
def naming_config(path: Path) -> Iterator[None]:
    """A config is code, which may raise anything."""
    try:
        yield
    except FileNotFoundError as error:  # of a base
        raise FileNotFoundError(f"config {path}: {' '.join(str(error).split())}") from error
    except Exception as error:
        what = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise ValueError(
            f"config {path} cannot be evaluated: {' '.join(str(what).split())}"
        ) from error


def _check(config: Config, options: Mapping[str, Any], path: Path) -> None:
    """Checks a finished config against the tables."""
    content = config._cfg_dict.to_dict()
    if unset := [key for key, value in content.items() if value is ...]:
        raise ValueError(f"config {path} leaves {', '.join(unset)} to be set: derive one from it")
    for key, value in content.items():
        if key in VARIABLES:
            VARIABLES[key].require(value, place_of(key, options, path))
    for keys, section in sections(content):
        for key, check in checks_of(keys, section).items():
            if key in section:
                where = place_of(".".join((*keys, key)), options, path)
                check.require(section[key], where)


def place_of(key: str, options: Mapping[str, Any], path: str | Path) -> str:
    """What messages call a key: the option that has set it, else the config."""
    given = any(key == option or key.startswith(f"{option}.") for option in options)
    return f"{OPTION} {key}" if given else f"config {path}: {key}"


def _refuse_nan(key: str, value: Any) -> None:
    """NaN is no setting of anything, and no literal that could be put into a config."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{OPTION} {key}: expected a finite number, got {value}")
    if isinstance(value, list | tuple):
        for item in value:
            _refuse_nan(key, item)


def _read_chain(path: Path) -> dict[Path, ast.Module]:
    """The config and all of its bases, each after those that derive from it."""
    trees = {path: ast.parse(path.read_text(), str(path))}
    for base in _bases(path):
        for file, tree in _read_chain(base).items():
            trees.pop(file, None)
            trees[file] = tree
    return trees


def _bases(path: Path) -> list[Path]:
    return [(path.parent / base).resolve() for base in Config._get_base_files(str(path))]


def _assignments(tree: ast.Module) -> dict[str, ast.Assign]:
    """The last top-level assignment of each name."""
    return {
        statement.targets[0].id: statement
        for statement in tree.body
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }


def _variables(tree: ast.Module, outer: dict[str, Any]) -> dict[str, Any]:
    """What a config and those that derive from it hand to its bases.

    Its own variables are what it assigns without a call, made of literals and variables.
    ``model = dict(...)`` is none: it is to be fused with the base's dict, not to replace it.

    Args:
        tree: The config.
        outer: Variables from the command line and from configs that derive from this one.
    """
    known = dict(outer)
    for name, statement in _assignments(tree).items():
        if name in outer or name == "_base_":
            continue
        try:
            code = compile(ast.Expression(statement.value), "config", "eval")
            value = eval(code, {"__builtins__": {}}, known)
            plain = not isinstance(value, dict) and ast.literal_eval(repr(value)) == value
        except Exception:  # no variable; an error in it is mmengine's to report
            continue
        if plain:
            known[name] = value
    return known


def _evaluate(path: Path, trees: dict[Path, ast.Module], variables: dict[str, Any]) -> Config:
    """Evaluates edited copies: mmengine has no way to inject a value before evaluation."""
    root = Path(os.path.commonpath([file.parent for file in trees]))
    with tempfile.TemporaryDirectory() as folder:
        for file, tree in trees.items():
            values = dict(variables)
            variables = _variables(tree, variables)
            if bases := [str(Path(folder) / base.relative_to(root)) for base in _bases(file)]:
                values["_base_"] = bases
            for name, statement in _assignments(tree).items():
                if name in values:
                    statement.value = ast.parse(repr(values[name]), mode="eval").body
            copy = Path(folder) / file.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(ast.unparse(tree))
        copy = Path(folder) / path.relative_to(root)
        config = Config.fromfile(copy, import_custom_modules=False)
        # A run writes its config seven times; to lay out its text takes seconds each time.
        return Config(config._cfg_dict, filename=str(path), format_python_code=False)


def _require_key(config: Config, key: str, value: Any, path: Path) -> None:
    """An override may add to a dict, but a key whose parent does not exist is a typo."""
    *parents, last = key.split(".")
    node: Any = config._cfg_dict
    for depth, name in enumerate(parents):
        node = _entry(node, name, ".".join(parents[:depth]), key, path)
    if not parents or isinstance(node, list | tuple):
        _entry(node, last, ".".join(parents), key, path)
    elif not isinstance(node, Mapping):
        raise ValueError(
            f"{OPTION} {key}: {'.'.join(parents)} of {path} is {shown(node)}, which has no parts"
        )
    elif parents and isinstance(node.get(last), Mapping):
        _require_dict(key, value)


def _require_dict(key: str, value: Any) -> None:
    """A dict may be taken away, not be replaced by a word or a number."""
    if value is not None and not isinstance(value, Mapping):
        raise ValueError(
            f"{OPTION} {key}: expected a dict, of which single keys can be set ({key}.KEY=VALUE), "
            f"got {shown(value)}"
        )


def _is_dict(node: ast.expr) -> bool:
    return isinstance(node, ast.Dict) or (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict"
    )


def _entry(node: Any, name: str, parent: str, key: str, path: Path) -> Any:
    if isinstance(node, list | tuple):
        if not name.isdecimal() or int(name) >= len(node):
            raise ValueError(
                f"{OPTION} {key}: {parent} of {path} is a list of {len(node)} items, which "
                f"{name!r} is none of"
            )
        return node[int(name)]
    if not isinstance(node, Mapping):
        raise ValueError(f"{OPTION} {key}: {parent} of {path} is {shown(node)}, which has no parts")
    if name not in node:
        known = [key for key in node if not key.startswith("_")]
        what = f"has no {f'{parent}.' if parent else ''}{name}"
        raise ValueError(f"{OPTION} {key}: {path} {what}; {nearest(name, known)}")
    return node[name]
