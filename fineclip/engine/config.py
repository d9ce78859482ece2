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

    Keys with dots (``model.clip.name``) are merged into the finished config, as mmengine does. A
    plain key that the config or one of its bases assigns at top level (``data_root``,
    ``batch_size``) is replaced where it is assigned, before the config is evaluated: whatever is
    computed from it follows.

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
        chain = _config_chain(path.resolve())
        assigned = set().union(*(_top_level_names(file) for file in chain))
        variables = {key: options.pop(key) for key in list(options) if key in assigned}
        config = _evaluate(path.resolve(), chain, variables)
    except (SyntaxError, NameError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"config {path} cannot be evaluated: {error}") from error
    for key in options:
        _require_key(config, key, path)
    config.merge_from_dict(options)
    return config


def _config_chain(path: Path) -> list[Path]:
    """The config and all of its bases."""
    chain = [path]
    for base in Config._get_base_files(str(path)):
        chain.extend(_config_chain((path.parent / base).resolve()))
    return list(dict.fromkeys(chain))


def _assignments(tree: ast.Module) -> dict[str, ast.Assign]:
    return {
        statement.targets[0].id: statement
        for statement in tree.body
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    }


def _top_level_names(path: Path) -> set[str]:
    return set(_assignments(ast.parse(path.read_text(), str(path)))) - {"_base_"}


def _evaluate(path: Path, chain: list[Path], variables: dict[str, Any]) -> Config:
    if not variables:
        return Config.fromfile(path)
    # mmengine has no way to inject a value before evaluation, so it evaluates edited copies.
    root = Path(os.path.commonpath([file.parent for file in chain]))
    with tempfile.TemporaryDirectory() as folder:
        for file in chain:
            tree = ast.parse(file.read_text(), str(file))
            values = dict(variables)
            bases = [(file.parent / base).resolve() for base in Config._get_base_files(str(file))]
            if bases:
                values["_base_"] = [str(Path(folder) / base.relative_to(root)) for base in bases]
            for name, statement in _assignments(tree).items():
                if name in values:
                    statement.value = ast.parse(repr(values[name]), mode="eval").body
            copy = Path(folder) / file.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(ast.unparse(tree))
        config = Config.fromfile(Path(folder) / path.relative_to(root))
        return Config(config._cfg_dict, filename=str(path))


def _require_key(config: Config, key: str, path: Path) -> None:
    """An override may add to a dict, but a key whose parent does not exist is a typing error."""
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
