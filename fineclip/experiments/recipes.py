"""Comparison of configs with the published settings that they stand for.

``configs/published.json`` says for each recipe where it was published, which configs stand for it,
what its settings are, and why a config differs where it does::

    {"recipes": {NAME: {"source": TEXT, "like": OTHER, "configs": {FILE: OPTIONS},
                        "settings": {KEY: VALUE}, "reasons": {KEY: TEXT}}},
     "others": {FILE: why nothing published stands behind it}}

A recipe has the settings and reasons of the one that it is ``like``, and its own in place of them.
A key leads through a finished config; among dicts of a list it names the ``type`` of one. null is
what a config does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fineclip.checks import ANY_TEXT, OBJECT, TEXT, check_entries
from fineclip.engine import load_config
from fineclip.files import read_json, require_keys

FILE = "published.json"
_RECIPE = {
    "source": TEXT,
    "like": TEXT,
    "configs": OBJECT,
    "settings": OBJECT,
    "reasons": OBJECT,
}


@dataclass(frozen=True)
class Difference:
    """A setting of a config that is not the published one, or a flaw of the table.

    Attributes:
        config: The config, from its folder.
        key: The setting.
        published: Its published value.
        here: The config's.
        reason: Why; empty: nobody has said.
    """

    config: str
    key: str
    published: Any
    here: Any
    reason: str


def compare_recipes(folder: str | Path) -> tuple[list[Difference], list[str]]:
    """Compares all configs below a folder with its ``published.json``.

    Args:
        folder: The folder ``configs``.

    Returns:
        All differences, and what is wrong with the table itself: configs that it does not mention
        or that do not exist, and reasons for what does not differ.

    Raises:
        FileNotFoundError: There is no table, or a config's base is missing.
        ValueError: The table or a config cannot be read.
    """
    folder = Path(folder)
    table = read_json(folder / FILE, "published settings")
    require_keys(table, ["recipes", "others"], str(folder / FILE))
    recipes = {name: _resolved(name, table["recipes"], folder) for name in table["recipes"]}
    mentioned = {file for recipe in recipes.values() for file in recipe["configs"]}
    mentioned |= set(table["others"])
    shipped = set(_configs(folder))
    flaws = [f"{file} is in no recipe and not among 'others'" for file in shipped - mentioned]
    flaws += [f"{file} does not exist" for file in mentioned - shipped]
    found = []
    for name, recipe in recipes.items():
        used: set[str] = set()
        for file, options in recipe["configs"].items():
            if file in shipped:
                differences = list(_differences(folder, file, options, recipe))
                used |= {difference.key for difference in differences}
                found += differences
        own = table["recipes"][name].get("reasons", {})
        flaws += [f"{name}: a reason for {key}, which does not differ" for key in own.keys() - used]
    return found, sorted(flaws)


def _resolved(name: str, recipes: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A recipe with what it has from the one that it is like."""
    where = f"{folder / FILE}: {name}"
    if name not in recipes:
        raise ValueError(f"{where}: there is no such recipe")
    recipe = recipes[name]
    if unknown := sorted(set(recipe) - set(_RECIPE)):
        raise ValueError(f"{where}: unknown {', '.join(unknown)}; known: {', '.join(_RECIPE)}")
    check_entries(recipe, _RECIPE, where, optional=("like", "settings", "reasons"))
    base: dict[str, Any] = {"settings": {}, "reasons": {}}
    if "like" in recipe:
        base = _resolved(recipe["like"], {k: v for k, v in recipes.items() if k != name}, folder)
    joined = {key: {**base[key], **recipe.get(key, {})} for key in ("settings", "reasons")}
    check_entries(joined["reasons"], dict.fromkeys(joined["reasons"], ANY_TEXT), where)
    return {**recipe, **joined}


def _configs(folder: Path) -> Iterator[str]:
    """What can be run: all but the bases."""
    for file in sorted(folder.rglob("*")):
        place = file.relative_to(folder)
        if file.suffix in (".py", ".yaml") and "_base_" not in place.parts:
            yield place.as_posix()


def _differences(
    folder: Path, file: str, options: Mapping[str, Any], recipe: Mapping[str, Any]
) -> Iterator[Difference]:
    path = folder / file
    if path.suffix == ".yaml":
        config = {**_read_yaml(path), **options}
    else:
        config = load_config(path, dict(options)).to_dict()
    for key, published in recipe["settings"].items():
        here = _plain(_look_up(config, key))
        if here != _plain(published):
            yield Difference(file, key, published, here, recipe["reasons"].get(key, ""))


def _read_yaml(path: Path) -> dict[str, Any]:
    """detectron2's YAML with its bases, read without detectron2."""
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    base = config.pop("_BASE_", None)
    return _fused(_read_yaml(path.parent / base), config) if base else config


def _fused(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    joined = dict(base)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(joined.get(key), Mapping)
        joined[key] = _fused(joined[key], value) if both else value
    return joined


def _look_up(node: Any, key: str) -> Any:
    """What a key leads to; None where there is nothing."""
    for name in key.split("."):
        if isinstance(node, list | tuple):
            typed = [n for n in node if isinstance(n, Mapping) and n.get("type") == name]
            if name.isdecimal():
                typed = list(node[int(name) : int(name) + 1])
            node = typed[0] if typed else None
        else:
            node = node.get(name) if isinstance(node, Mapping) else None
    return node


def _plain(value: Any) -> Any:
    """Tuples are lists, and detectron2's are text."""
    if isinstance(value, str) and value.startswith("("):
        value = yaml.safe_load(f"[{value.strip('()').strip(',')}]")
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
