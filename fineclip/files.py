"""Writing files so that a reader never meets half of one, and reading JSON with clear errors."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fineclip.paths import require_regular


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a temporary name in the same folder and renames it to ``path`` at the end.

    Whatever was written is removed when the block raises.

    Raises:
        OSError: The folder does not exist or cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Gives a new folder beside ``path`` and renames it to that at the end.

    A folder that is there already is removed just before. Whatever was written is removed when
    the block raises.

    Raises:
        OSError: The folder around it does not exist or cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_atomically(path: str | Path, text: str) -> None:
    """Writes a text file under a temporary name in the same folder, then renames it.

    Raises:
        OSError: The folder does not exist or cannot be written to.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | Path, what: str) -> Any:
    """Reads a JSON file.

    Args:
        path: The file.
        what: What it should be, for messages ("panoptic annotations").

    Returns:
        The parsed content.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read or is not JSON.
    """
    try:
        require_regular(path)
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{what}: {path} does not exist") from None
    except OSError as error:
        raise ValueError(f"{what}: {path} cannot be read: {error.strerror}") from None
    return parse_json(content, f"{what}: {path}")


def parse_json(content: str | bytes, where: str) -> Any:
    """Parses JSON that is part of a file.

    Args:
        content: The text; bytes are UTF-8.
        where: File and place, for the message.

    Returns:
        The parsed content.

    Raises:
        ValueError: It is not JSON.
    """
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:  # of syntax, encoding, or endless brackets
        raise ValueError(f"{where} is not valid JSON: {error}") from None


def require_keys(data: Any, keys: Sequence[str], where: str) -> None:
    """Checks that a piece of JSON is an object with certain keys.

    Args:
        data: Any parsed JSON.
        keys: Keys it must have.
        where: File and place, for the message.

    Raises:
        ValueError: It is no object or lacks a key.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: expected a JSON object, got {type(data).__name__}")
    for key in keys:
        if key not in data:
            raise ValueError(f"{where}: missing key {key!r}")


def require_folder(path: Path | str, what: str) -> Path:
    """Checks that a folder exists.

    Args:
        path: The folder.
        what: What it should hold, for the message.

    Returns:
        The path.

    Raises:
        FileNotFoundError: It is missing or no folder.
    """
    if not Path(path).is_dir():
        raise FileNotFoundError(f"{what}: folder {path} does not exist")
    return Path(path)


def require_file(path: Path | str, what: str) -> Path:
    """Checks that a file exists.

    Args:
        path: The file.
        what: What it should hold or who names it, for the message.

    Returns:
        The path.

    Raises:
        FileNotFoundError: It is missing or no file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{what}: {path} does not exist")
    return Path(path)
