"""Loading a config with command line overrides."""

from __future__ import annotations

import ast
import os
import tempfile
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict


def load_config(path: str | Path, options: dict[str, Any] | None = None) -> Config:
    """Loads an mmengine config and applies overrides.

    A variable that a config assigns at top level (``model_name = "EVA02-B-16"``) also replaces
    the variable of that name in its bases, before they are evaluated: whatever they compute from
    it follows. A derived config is then little more than a list of variables. mmengine's own
    ``Config.fromfile`` would change the variable alone; ``...`` as the value in a base marks those
    that a derived config has to set, and makes such a config unusable rather than wrong.

    Overrides without dots (``data_root``, ``batch_size``) replace variables in the same way.
    Keys with dots (``model.clip.name``) are merged into the finished config, as mmengine does.

    Args:
        path: A Python config file.
        options: Overrides by key.

    Raises:
        FileNotFoundError: The config does not exist.
        ValueError: The config cannot be evaluated, or an override names a key it does not have.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"config {path} does not exist")
    options = dict(options or {})
    try:
        trees = _read_chain(path.resolve())
        assigned = set().union(*(_assignments(tree) for tree in trees.values())) - {"_base_"}
        variables = {key: options.pop(key) for key in list(options) if key in assigned}
        config = _evaluate(path.resolve(), trees, variables)
    except (SyntaxError, NameError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"config {path} cannot be evaluated: {error}") from error
    for key in options:
        _require_key(config, key, path)
    config.merge_from_dict(options)
    return config


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
        config = Config.fromfile(Path(folder) / path.relative_to(root))
        # A run writes its config seven times; to lay out its text takes seconds each time.
        return Config(config._cfg_dict, filename=str(path), format_python_code=False)


def _require_key(config: Config, key: str, path: Path) -> None:
    """An override may add to a dict, but a key whose parent does not exist is a typo."""
    parents = key.split(".")[:-1]
    node: Any = config._cfg_dict
    for depth, name in enumerate(parents):
        if isinstance(node, ConfigDict) and name in node:
            node = node[name]
        elif isinstance(node, list | tuple) and name.isdigit() and int(name) < len(node):
            node = node[int(name)]
        else:
            known = ", ".join(node) if isinstance(node, dict) else f"{len(node)} items"
            raise ValueError(
                f"--cfg-options {key}: {path} has no {'.'.join(parents[: depth + 1])} ({known})"
            )
    if not parents:
        known = ", ".join(sorted(k for k in config._cfg_dict if not k.startswith("_")))
        if key not in config._cfg_dict:
            raise ValueError(f"--cfg-options {key}: {path} does not define it; it has {known}")
