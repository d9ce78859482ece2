"""Files of captions by file name: CSV, TSV, JSON Lines, and JSON in COCO's format or as a list."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fineclip.annotation.records import countable
from fineclip.annotations import read_captions
from fineclip.annotations.captions import audit_caption_list
from fineclip.checks import nearest
from fineclip.files import parse_json, read_json
from fineclip.paths import require_regular

FILE_COLUMNS = ("image", "file_name", "filename", "file", "filepath", "image_path", "path", "img")
CAPTION_COLUMNS = ("caption", "captions", "text", "title", "description", "alt_text")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")

Row = tuple[str, list[str | bytes]]


class CaptionTable:
    """Captions by file name, read once.

    Args:
        path: The file; its suffix says what it is. Columns (of JSON Lines, keys) are found by
            their usual names, or are the first two of a CSV or TSV file without such a header.

    Attributes:
        captions: By file name as the file has it, in the order of first appearance. A caption that
            is not UTF-8 has lone surrogates.
        ids: Of COCO's files, the ids by file name.
        notes: How many rows were left out, by reason.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another kind, or no row of it can be used.
    """

    def __init__(self, path: Path) -> None:
        self.captions: dict[str, list[str | bytes]] = {}
        self.ids: dict[str, Any] = {}
        self.notes: Counter[str] = Counter()
        self._where = f"captions: {path}"
        if path.suffix.lower() == ".json":
            self._read_json(path)
        elif path.suffix.lower() in SUFFIXES:
            separator = {".csv": ",", ".tsv": "\t"}.get(path.suffix.lower())
            text = _text_of(path)
            rows = self._json_rows(text) if separator is None else self._rows(text, separator)
            for name, captions in rows:
                self.captions.setdefault(name, []).extend(captions)
        else:
            raise ValueError(f"{self._where}: expected a file named {', '.join(SUFFIXES)}")
        if not self.captions:
            found = ", ".join(f"{count} x {reason}" for reason, count in self.notes.items())
            raise ValueError(f"{self._where}: no row can be used ({found or 'there is none'})")

    def _read_json(self, path: Path) -> None:
        data = read_json(path, "captions")
        if isinstance(data, list):
            listed, report = audit_caption_list(data, str(path))
            report.raise_if_refused()
            self.captions = {name: list(captions) for name, captions in listed.items()}
        else:
            found, report = read_captions(path, images=True)
            for id_, name in found.images.items():
                self.captions[name] = list(found.by_image.get(id_, ()))
                self.ids[name] = id_
        for finding in report.findings:
            self.notes[countable(f"captions: {finding.kind}: {finding.reason}")] += finding.count

    def _rows(self, text: str, separator: str) -> Iterator[Row]:
        reader = csv.reader(_lines(text), delimiter=separator, strict=False)
        columns: tuple[int, int] | None = None
        for row in _readable(reader, self.notes):
            if columns is None:
                columns, is_header = _columns(row, self._where)
                if is_header:
                    continue
            if not any(row):
                continue
            if len(row) <= max(columns) or not row[columns[0]].strip():
                self.notes["captions: row without file name or caption"] += 1
                continue
            yield row[columns[0]].strip(), [row[columns[1]]]

    def _json_rows(self, text: str) -> Iterator[Row]:
        for line in text.split("\n"):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                self.notes["captions: line is not valid JSON"] += 1
                continue
            name = _first(entry, FILE_COLUMNS)
            captions = _first(entry, CAPTION_COLUMNS)
            captions = [captions] if isinstance(captions, str) else captions
            if not isinstance(name, str) or not name.strip() or not isinstance(captions, list):
                self.notes["captions: row without file name or caption"] += 1
            elif not all(isinstance(caption, str) for caption in captions):
                self.notes["captions: caption is not text"] += 1
            else:
                yield name.strip(), captions


def captions_of_metadata(content: bytes) -> dict[str, Any]:
    """The metadata of an image in a shard: an object.

    Raises:
        ValueError: They are no JSON object.
    """
    data = parse_json(content, "metadata")
    if not isinstance(data, dict):
        raise ValueError("metadata are no JSON object")
    return data


def _text_of(path: Path) -> str:
    """Text of a file; what is not UTF-8 becomes lone surrogates, which no text has."""
    require_regular(path)
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    return content.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors="surrogateescape")


def _lines(text: str) -> Iterator[str]:
    """Lines with their ends, without zero characters, which csv refuses."""
    return (line.replace("\0", "") for line in io.StringIO(text, newline=""))


def _readable(reader: Iterator[list[str]], notes: Counter[str]) -> Iterator[list[str]]:
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            notes[countable(f"captions: row cannot be read: {error}")] += 1


def _columns(first: list[str], where: str) -> tuple[tuple[int, int], bool]:
    """Places of file name and caption, and whether this row is a header."""
    names = [name.strip().lower() for name in first]
    file = next((names.index(name) for name in FILE_COLUMNS if name in names), None)
    caption = next((names.index(name) for name in CAPTION_COLUMNS if name in names), None)
    if file is not None and caption is not None:
        return (file, caption), True
    if (file is None) != (caption is None) and len(names) > 1:
        missing, known = ("file name", FILE_COLUMNS) if file is None else ("text", CAPTION_COLUMNS)
        raise ValueError(f"{where}: no column with the {missing} among {', '.join(names)}: {known}")
    if len(first) < 2:
        raise ValueError(
            f"{where}: expected columns of file names and captions, got {first}; "
            f"{nearest(names[0] if names else '', FILE_COLUMNS)}"
        )
    return (0, 1), False


def _first(entry: Any, keys: tuple[str, ...]) -> Any:
    if not isinstance(entry, dict):
        return None
    return next((entry[key] for key in keys if key in entry), None)
