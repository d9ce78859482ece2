"""Writing files so that a reader never meets half of one; reading JSON and YAML, errors clear."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from fineclip.paths import require_regular

_HOST = re.sub(r"[^\w-]", "-", socket.gethostname())
_TEMPORARY = re.compile(r"\..+\.(?P<host>[\w-]*)@(?P<process>\d+)\.tmp")
_swept: set[Path] = set()


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a temporary name in the same folder and renames it to ``path`` at the end.

    Whatever was written is removed when the block raises. What killed processes left in the
    folder is removed when a process writes to it for the first time.

    Raises:
        OSError: The folder does not exist or cannot be written to.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        yield temporary
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            error.filename = str(path)  # of a full disk, the system names none
        raise


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Gives a new folder beside ``path`` and renames it to that at the end.

    A folder that is there already is replaced: it is moved aside, and removed once the new one has
    its name. Whatever was written is removed when the block raises; for the rest see
    :func:`replacing`.

    Raises:
        OSError: The folder around it does not exist or cannot be written to.
    """
    path = Path(path)
    temporary = temporary_beside(path)
    temporary.mkdir()
    aside = temporary_beside(path.with_name(f"{path.name}.old"))
    try:
        yield temporary
        if path.exists():
            path.rename(aside)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        if aside.exists() and not path.exists():
            aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def sweep_leftovers(folder: str | Path, *, all_of_them: bool = False) -> list[str]:
    """Removes the temporary files and folders that killed processes left in a folder.

    Args:
        folder: The folder; what lies in its subfolders stays.
        all_of_them: Nothing else writes there, so that none of them can be in use. Otherwise those
            of other machines and of running processes stay.

    Returns:
        The names of what was removed.
    """
    removed = []
    for entry in os.scandir(folder):
        found = _TEMPORARY.fullmatch(entry.name)
        if not found or not (all_of_them or _is_left(found["host"], int(found["process"]))):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            Path(entry.path).unlink(missing_ok=True)
        removed.append(entry.name)
    return removed


def temporary_beside(path: Path) -> Path:
    """The name under which a file or folder is written before it is renamed to its own."""
    folder = path.parent.absolute()
    if folder not in _swept and folder.is_dir():
        _swept.add(folder)
        sweep_leftovers(folder)
    return path.with_name(f".{path.name}.{_HOST}@{os.getpid()}.tmp")


def _is_left(host: str, process: int) -> bool:
    if host != _HOST:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        return False
    return False


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
    return parse_json(_read_bytes(path, what), f"{what}: {path}")


def read_yaml(path: str | Path, what: str) -> Any:
    """Reads a YAML file as plain values: nothing in it is called or constructed.

    Args:
        path: The file; UTF-8 or, with a byte order mark, UTF-16.
        what: What it should be, for messages.

    Returns:
        The parsed content.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, is not YAML, or has one key twice.
    """
    try:
        return yaml.load(_read_bytes(path, what), Loader=_UniqueKeys)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{what}: {path} is not valid YAML: {reason}") from None


class _UniqueKeys(yaml.SafeLoader):
    """Refuses what YAML forbids and PyYAML lets the last of win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise ValueError(f"the key {min(twice)!r} occurs twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def _read_bytes(path: str | Path, what: str) -> bytes:
    try:
        require_regular(path)
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{what}: {path} does not exist") from None
    except OSError as error:
        raise ValueError(f"{what}: {path} cannot be read: {error.strerror}") from None


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
