"""Loading a config with command line overrides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from fineclip.configuration.overrides import OverridesAction, parse_overrides
from fineclip.configuration.reading import naming_config, place_of, read_config
from fineclip.engine.arguments import check_arguments
from fineclip.engine.harmless import require_harmless

__all__ = ["OverridesAction", "load_config", "parse_overrides"]


def load_config(path: str | Path, options: dict[str, Any] | None = None) -> Config:
    """Reads an mmengine config, applies overrides and imports the modules that it names.

    What the result says is checked before anything is built from it: variables and settings by
    :func:`fineclip.configuration.reading.read_config`, which says how overrides work, arguments of
    this project's classes by their signatures
    (:func:`fineclip.engine.arguments.check_arguments`).

    Args:
        path: A Python config file, which is run, or the ``plain_config.json`` of a training, which
            is read (:mod:`fineclip.configuration.plain`).
        options: Overrides by key.

    Raises:
        FileNotFoundError: The config does not exist.
        ValueError: The config cannot be evaluated, or a key is unknown or has a value that makes
            no sense.
    """
    config = read_config(path, options)
    if Path(path).suffix == ".json":
        require_harmless(config._cfg_dict.to_dict(), path)
    else:
        with naming_config(Path(path)):
            import_modules_from_strings(**config.get("custom_imports", {"imports": None}))
    try:
        check_arguments(config._cfg_dict.to_dict())
    except ValueError as error:
        key = str(error).partition(": ")[0]
        where = place_of(key, options or {}, path)
        raise ValueError(f"{where}{str(error).removeprefix(key)}") from None
    return config
