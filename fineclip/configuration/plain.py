"""A finished config as data: what a training leaves beside its weights, to be read by anybody.

A config file of mmengine is a program. Whoever passes weights on passes their config on with them,
so what is found beside weights is not run: it is the JSON that :func:`write_plain_config` makes,
with everything that model and test are built from. Reading it builds nothing yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from fineclip.checks import shown
from fineclip.files import read_json, write_atomically

PLAIN_CONFIG = "plain_config.json"
"""Its name in a work dir."""

_FORMAT, _VERSION = "fineclip-config", 1
_TUPLE, _PATH = "__tuple__", "__path__"  # the only key of an object that stands for one

# Where and how each training starts, not what it trains: kept as if nothing had been said.
_START = {"load_from": None, "resume": False, "launcher": "none", "work_dir": None}


def write_plain_config(config: Config, folder: str | Path) -> None:
    """Writes a config as ``plain_config.json``, all but where the training started.

    Tuples and paths come back as such. A class or function is written as its full name, as in the
    config that mmengine leaves; it is not built from that again.

    Args:
        config: A finished config.
        folder: Where to.

    Raises:
        ValueError: A value is none that JSON can hold; the message names its key.
        OSError: The folder cannot be written to.
    """
    content = config._cfg_dict.to_dict()
    content |= {key: value for key, value in _START.items() if key in content}
    document = {
        "format": _FORMAT,
        "version": _VERSION,
        "name": Path(config.filename or "config").stem,
        "config": _encoded(content, ""),
    }
    write_atomically(Path(folder) / PLAIN_CONFIG, json.dumps(document, indent=1) + "\n")


def read_plain_config(path: str | Path) -> Config:
    """Reads what :func:`write_plain_config` wrote, and runs nothing of it.

    What it names has not been looked at: :func:`fineclip.engine.load_config` does so.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file.
    """
    document = read_json(path, "config")
    if not isinstance(document, Mapping) or document.get("format") != _FORMAT:
        raise ValueError(
            f"config {path}: expected the {PLAIN_CONFIG} of a training, or a Python config (*.py)"
        )
    if document.get("version") != _VERSION:
        raise ValueError(f"config {path}: version {shown(document.get('version'))} is not known")
    content, name = document.get("config"), document.get("name")
    if not isinstance(content, dict):
        raise ValueError(f"config {path}: 'config': expected an object, got {shown(content)}")
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"config {path}: 'name': expected a config's name, got {shown(name)}")
    try:
        content = _decoded(content)
    except RecursionError:
        raise ValueError(f"config {path}: too many brackets within each other") from None
    try:
        # By this name its run is called; mmengine writes it there as the program that it was.
        file = Path(path).with_name(f"{name}.py")
        return Config(content, cfg_text=f"# {path}", filename=str(file), format_python_code=False)
    except KeyError as error:
        raise ValueError(f"config {path}: {error.args[0]}") from error


def _encoded(value: Any, key: str) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str) or name in (_TUPLE, _PATH):
                raise ValueError(f"config: {key or 'top level'}: {name!r} can be no key of JSON")
        return {name: _encoded(item, f"{key}.{name}".lstrip(".")) for name, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_encoded(item, f"{key}.{place}") for place, item in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if isinstance(value, Path):
        return {_PATH: str(value)}
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    raise ValueError(
        f"config: {key}: expected a plain value (text, number, list, dict, path), since configs "
        f"are kept beside weights as data; got {type(value).__name__} {shown(value)}"
    )


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_TUPLE} and isinstance(value[_TUPLE], list):
        return tuple(_decoded(item) for item in value[_TUPLE])
    if value.keys() == {_PATH} and isinstance(value[_PATH], str):
        return Path(value[_PATH])
    return {key: _decoded(item) for key, item in value.items()}
