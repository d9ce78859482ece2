"""Reading what a vocabulary file holds: JSON, text with a name a line, or a data set's YAML."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fineclip.files import read_yaml
from fineclip.text.class_lists import categories_of

_YAML_SUFFIXES = (".yaml", ".yml")
_TEXT_SUFFIXES = ("", ".txt", ".names", ".list", ".lst")


@dataclass(frozen=True)
class VocabularyFile:
    """What a file holds.

    Attributes:
        data: Parsed JSON, or the names of a text file.
        lines: Of a text file the line of each name, counted from 1; None for JSON.
    """

    data: Any
    lines: tuple[int, ...] | None = None


def read_vocabulary_file(path: Path) -> VocabularyFile:
    """Reads a vocabulary file; its content says which kind it is.

    Args:
        path: UTF-8 or, with a byte order mark, UTF-16. Content that begins with a bracket, and any
            file ``*.json``, is JSON. A file ``*.yaml`` describes a data set, of which the classes
            are taken. Any other is text, if its suffix does not say otherwise.

    Raises:
        ValueError: It cannot be read, is no text, JSON with an error or with one key twice in an
            object, or lines that are numbered; the message names the file.
    """
    where = f"vocabulary: {path}"
    if path.suffix.lower() in _YAML_SUFFIXES:
        return VocabularyFile(categories_of(read_yaml(path, "vocabulary"), where))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{where} cannot be read: {error.strerror}") from None
    try:
        text = content.decode(json.detect_encoding(content))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{where} is no text in UTF-8 (byte {error.start}); save it with that encoding"
        ) from None
    if path.suffix.lower() == ".json" or re.match(r"\s*[\[{]", text):
        return VocabularyFile(_parse(text, where))
    if path.suffix.lower() not in _TEXT_SUFFIXES:
        raise ValueError(
            f"{where}: expected JSON, a data set's *.yaml, or a name a line in a file *.txt; what "
            f"{path.suffix} files hold is not known"
        )
    return _names(text, where)


def _parse(text: str, where: str) -> Any:
    repeated: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):  # the last would win, without a word
            repeated.extend(key for key, n in Counter(k for k, _ in pairs).items() if n > 1)
        return found

    try:
        data = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON: {error}") from None
    if repeated:
        raise ValueError(f"{where}: the key {repeated[0]!r} occurs twice in one object")
    return data


def _names(text: str, where: str) -> VocabularyFile:
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not lines:
        raise ValueError(f"{where} holds no names; expected one a line")
    names = [line for _, line in lines]
    if len(names) > 1 and all(re.match(r"\d+\s*[:,;\s]\s*\S", name) for name in names):
        raise ValueError(
            f"{where}: line {lines[0][0]}, {names[0]!r:.200}, begins with a number, as all others "
            "do; write names alone, whose order says which class they are"
        )
    return VocabularyFile(names, tuple(number for number, _ in lines))
