"""Class lists: JSON files as the reference has them, or vocabularies that come with the project."""

from __future__ import annotations

import json
from pathlib import Path

from fineclip.text import known_vocabularies, load_vocabulary


def read_class_names(source: str | Path) -> tuple[str, ...]:
    """Reads class names in the order of the label maps.

    Args:
        source: A JSON file with a list of names, or the name of a vocabulary
            (:func:`fineclip.text.known_vocabularies`), such as ``"coco_stuff171"``.

    Returns:
        T names.

    Raises:
        FileNotFoundError: Neither a file nor a known vocabulary.
        ValueError: The file holds no list of names.
    """
    if str(source) in known_vocabularies():
        return load_vocabulary(str(source)).names
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"class list {source}: no such file; name a JSON file with a list of class names, or "
            f"one of the vocabularies {', '.join(known_vocabularies())}"
        )
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"class list {path} is not valid JSON: {error}") from error
    good = isinstance(names, list) and names
    if not good or not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(
            f'class list {path} must hold a list of names, ["person", "grass", ...], none empty'
        )
    return tuple(names)
