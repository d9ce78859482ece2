"""Names of classes: those that a user gives, and those of the files that other programs write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fineclip.checks import shown
from fineclip.files import read_yaml
from fineclip.importing.finding import read_lines
from fineclip.text.vocabulary import load_vocabulary

NO_CLASS = frozenset(
    {"background", "_background_", "__background__", "bg", "unlabeled", "unlabelled", "void"}
    | {"__ignore__", "ignore"}
)
"""Names of what is no class in label maps, in lower case."""


def given_classes(words: Sequence[str]) -> list[str]:
    """The names of ``--classes``.

    Args:
        words: Names, or one file that holds them: a name a line, YAML with ``names``, or a
            vocabulary in JSON.

    Returns:
        The names in label order, none if there are no words.

    Raises:
        FileNotFoundError: A file that does not exist.
        ValueError: A file that holds no names.
    """
    if len(words) != 1:
        return list(words)
    path = Path(words[0])
    if path.suffix.lower() not in (".txt", ".names", ".yaml", ".yml", ".json"):
        return [words[0]]
    if not path.is_file():
        raise FileNotFoundError(f"--classes: {path} does not exist")
    if path.suffix.lower() == ".json":
        return list(load_vocabulary(path).names)
    if path.suffix.lower() in (".yaml", ".yml"):
        data = read_keys(path)
        return (
            list(load_vocabulary(path).names) if "classes" in data else classes_of_yaml(data, path)
        )
    return names_by_line(path)


def names_by_line(path: Path) -> list[str]:
    """The names of a text file, one a line (``classes.txt``, ``obj.names``).

    Raises:
        ValueError: It holds none, or has an empty line between two names; the message names the
            file.
    """
    lines = [line.strip() for line in read_lines(path)]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise ValueError(f"{path} holds no names of classes; --classes names them")
    if "" in lines:
        raise ValueError(
            f"{path}: line {lines.index('') + 1} is empty, so it is not clear which number the "
            "names after it have; --classes names them"
        )
    return lines


def read_keys(path: Path) -> Mapping[str, Any]:
    """Reads a YAML file of keys and values.

    Raises:
        ValueError: It is no YAML, or holds something else; the message names the file.
    """
    try:
        data = read_yaml(path, "data set")
    except ValueError as error:
        raise ValueError(
            f"{error}; mend it, or do without it: --classes names the classes, --images the folder "
            "of the images"
        ) from None
    if not isinstance(data, Mapping):
        raise ValueError(
            f"{path}: expected keys and values, such as 'names', got {type(data).__name__}; "
            "--classes names the classes, --images the folder of the images"
        )
    return data


def classes_of_yaml(data: Mapping[str, Any], path: Path) -> list[str]:
    """The names of ultralytics' ``data.yaml``: a list, or numbers from 0 on with their names.

    Raises:
        ValueError: There are none, they are not numbered from 0 on, or ``nc`` is another number.
    """
    names = data.get("names")
    if isinstance(names, Mapping):
        numbers = list(names)
        if sorted(map(str, numbers)) != sorted(map(str, range(len(numbers)))):
            raise ValueError(
                f"{path}: 'names' must be numbered from 0 to {len(numbers) - 1}, got "
                f"{numbers[:5]!r:.100}; --classes names the classes"
            )
        names = [names[number] for number in sorted(numbers, key=int)]
    if not isinstance(names, list) or not names:
        raise ValueError(f"{path}: there is no list 'names'; --classes names the classes")
    for name in names:
        if isinstance(name, bool) or not isinstance(name, str | int | float):
            raise ValueError(
                f"{path}: 'names' holds {shown(name)}, which YAML takes for no word: quote it, or "
                "name the classes by --classes"
            )
    found = [str(name) for name in names]
    count = data.get("nc", len(found))
    if count != len(found):
        raise ValueError(
            f"{path}: 'nc' is {count!r}, but 'names' has {len(found)}; --classes names the classes"
        )
    return found
