"""Images with captions: tables (CSV, TSV, JSONL, JSON) or a text file beside each image."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fineclip.annotations import FileReport
from fineclip.files import parse_json
from fineclip.images import IMAGE_SUFFIXES
from fineclip.importing.classes import given_classes
from fineclip.importing.finding import SourceFiles, name_words, read_lines, split_of
from fineclip.importing.source import ImportOptions, SourceData, SourceImage

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
TEXT_TABLES = ("captions", "caption", "results", "metadata")
"""Names of tables in files ``*.txt``."""

_IMAGE_COLUMNS = (
    *("file_name", "filename", "image", "image_name", "file", "path", "image_path", "filepath"),
    *("img", "image_file", "img_path", "name", "image_id", "id"),
)
_CAPTION_COLUMNS = (
    *("caption", "captions", "text", "description", "sentence", "sentences", "comment", "title"),
    *("alt", "alt_text", "prompt", "label"),
)
_MOST_CHARACTERS = 1 << 24
_NUMBERED = re.compile(r"#\d+$")
"""Flickr8k and Flickr30k number the captions of an image: ``NAME.jpg#2``."""

Row = tuple[str, Mapping[str, Any]]
"""Place, and values by column."""


def read_caption_tables(files: SourceFiles, options: ImportOptions) -> SourceData:
    """Reads captions of images.

    Args:
        files: The source.
        options: ``classes`` (what zero-shot evaluation asks for), ``images``, ``labels``,
            ``image_column`` and ``caption_column`` are read.

    Returns:
        Its images with their captions, in the order of the tables.

    Raises:
        FileNotFoundError: There are no images or captions, or none of the captions is of an image
            that is there.
        ValueError: Columns that cannot be guessed, or a table that cannot be read; the message
            names the file and the option that helps.
    """
    report = FileReport(str(files.given))
    tables = files.labels(*TABLES) or [p for p in files.labels(".txt") if p.stem in TEXT_TABLES]
    images: dict[Path, SourceImage] = {}
    for path in tables:
        _add_table(path, files, options, images, report)
    if not tables:
        _add_sidecars(files, images, report)
    if not images:
        raise FileNotFoundError(
            f"{files.given}: no captions (a table *.csv, *.tsv or *.jsonl, or a text file of the "
            "same name beside each image); --labels names the table or the folder of the texts"
        )
    left = [path for path in files.images if path not in images]
    if left:
        report.add("dropped", "images without a caption", files.short(left[0]), count=len(left))
    return SourceData(list(images.values()), given_classes(options.classes), report)


def _add_sidecars(files: SourceFiles, images: dict[Path, SourceImage], report: FileReport) -> None:
    texts = {path: path for path in files.labels(".txt", ".caption")}
    by_stem = {path.stem: path for path in texts}
    for image in files.images:
        own = next(
            (p for s in (".txt", ".caption") if (p := image.with_suffix(s)) in texts), None
        ) or by_stem.get(image.stem)
        if own is None:
            continue
        lines = [line.strip() for line in read_lines(own) if line.strip()]
        if not lines:
            report.add("dropped", "empty captions", files.short(own))
            continue
        images[image] = SourceImage(image, files.split_of_folder(image), captions=lines)


def _add_table(
    path: Path,
    files: SourceFiles,
    options: ImportOptions,
    images: dict[Path, SourceImage],
    report: FileReport,
) -> None:
    rows = iter(_rows(path, options))
    columns: tuple[str, str] | None = None
    total = found = 0
    missing = ""
    for place, row in rows:
        if columns is None:
            columns = _columns(path, row, options)
        total += 1
        name, value = (row.get(column) for column in columns)
        if not isinstance(name, str | int) or not str(name).strip():
            report.add("dropped", "rows without an image", f"{files.short(path)}:{place}")
            continue
        if re.match(r"https?://", str(name)) and total == 1:
            raise ValueError(
                f"{path}:{place}: {name} is an address, not a file; download the images first, or "
                "name the column of files by --image-column"
            )
        image = files.find_image(_NUMBERED.sub("", str(name)), f"{path}:{place}", path.parent)
        if image is None:
            missing = missing or str(name)
            report.add("dropped", "captions of images that are not there", f"{place} {name}")
            continue
        found += 1
        _add_row(row, value, image, path, place, files, images, report)
    if total and not found:
        asked = columns[0] if columns else ""
        raise FileNotFoundError(
            f"{path}: none of the images of its column {asked!r} (first: {missing or 'empty'}) is "
            f"in {files.image_root}; --images DIR names their folder, --image-column the column"
        )
    if not total:
        report.add("noted", "tables without a row", files.short(path))


def _add_row(
    row: Mapping[str, Any],
    value: Any,
    image: Path,
    path: Path,
    place: str,
    files: SourceFiles,
    images: dict[Path, SourceImage],
    report: FileReport,
) -> None:
    split = next((split_of([str(row[key])]) for key in row if key.lower() == "split"), None)
    split = split or split_of(name_words(path.stem)) or files.split_of_folder(image)
    texts = value if isinstance(value, list) else [value]
    texts = [" ".join(text.split()) for text in texts if isinstance(text, str) and text.strip()]
    if not texts:
        report.add("dropped", "empty captions", f"{files.short(path)}:{place}")
        return
    entry = images.setdefault(image, SourceImage(image, split))
    if entry.split != split:
        raise ValueError(
            f"{path}:{place}: {files.short(image)} is in {split} here, but in {entry.split} by "
            "an earlier row; --labels FILE names the table that counts"
        )
    entry.captions += [text for text in texts if text not in entry.captions]


def _rows(path: Path, options: ImportOptions) -> Iterator[Row]:
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        for number, line in enumerate(read_lines(path), 1):
            if line.strip():
                yield str(number), _object(parse_json(line, f"{path}:{number}"), path, str(number))
    elif suffix == ".json":
        yield from _json_rows(path)
    elif suffix in (".csv", ".tsv", ".txt"):
        yield from _table_rows(path, options)
    else:
        raise ValueError(
            f"{path}: what *{suffix} files hold is not known; --labels names a table *.csv, *.tsv "
            "or *.jsonl"
        )


def _object(value: Any, path: Path, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{path}:{place}: expected an object with an image and a caption, got "
            f"{json.dumps(value)[:80]}; --labels FILE names the table of captions"
        )
    return value


def _json_rows(path: Path) -> Iterator[Row]:
    data = parse_json("\n".join(read_lines(path)), str(path))
    if isinstance(data, Mapping) and {"images", "annotations"} <= data.keys():
        raise ValueError(f"{path} is in COCO's format: --from coco reads its captions")
    if isinstance(data, Mapping):  # {file name: caption or captions}
        data = [{"file_name": name, "caption": value} for name, value in data.items()]
    if not isinstance(data, list):
        raise ValueError(
            f"{path}: expected a list of images with captions; --labels FILE names the table"
        )
    for index, entry in enumerate(data):
        yield f"[{index}]", _object(entry, path, f"[{index}]")


def _table_rows(path: Path, options: ImportOptions) -> Iterator[Row]:
    text = "\n".join(read_lines(path))
    first = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else _delimiter(first)
    csv.field_size_limit(_MOST_CHARACTERS)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                if not _is_data(header, options):
                    continue
                header = ["file_name", "caption"]
            if len(cells) > len(header) == 2:  # a comma in a caption that stands without quotes
                cells = [cells[0], delimiter.join(cells[1:])]
            yield str(reader.line_num), dict(zip(header, cells, strict=False))
    except csv.Error as error:
        raise ValueError(
            f"{path}:{reader.line_num} cannot be read ({error}); save it as UTF-8 with quotes "
            "around captions, or name another table by --labels FILE"
        ) from None


def _delimiter(line: str) -> str:
    """What ends the name of an image where the line begins with one; else what occurs most."""
    for letter in "\t,;|":
        if letter in line and _names_image(line.split(letter)[0].strip('" ')):
            return letter
    counts = Counter(letter for letter in line if letter in ",\t;|")
    return max(",\t;|", key=lambda letter: counts[letter])


def _names_image(cell: str) -> bool:
    return Path(_NUMBERED.sub("", cell)).suffix.lower() in IMAGE_SUFFIXES


def _is_data(cells: Sequence[str], options: ImportOptions) -> bool:
    """Whether a first line is no header: it begins with the name of an image."""
    if options.image_column in cells or len(cells) < 2:
        return False
    return _names_image(cells[0])


def _columns(path: Path, row: Mapping[str, Any], options: ImportOptions) -> tuple[str, str]:
    """The columns of image and caption."""
    names = {str(name).strip().lower().replace(" ", "_").replace("-", "_"): name for name in row}
    chosen = []
    for option, given, known in (
        ("--image-column", options.image_column, _IMAGE_COLUMNS),
        ("--caption-column", options.caption_column, _CAPTION_COLUMNS),
    ):
        column = given if given in row else None
        if given is None:
            column = next((names[name] for name in known if name in names), None)
        if column is None:
            there = ", ".join(map(repr, row)) or "none"
            what = f"no column {given!r}" if given else "no column whose name is known"
            raise ValueError(f"{path}: {what} (there are {there}); {option} names it")
        chosen.append(column)
    if chosen[0] == chosen[1]:
        raise ValueError(f"{path}: one column is for both; --caption-column names the other")
    return chosen[0], chosen[1]
