"""Which format a source has, by what lies in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from fineclip.files import read_json
from fineclip.importing.caption_tables import TABLES, TEXT_TABLES, read_caption_tables
from fineclip.importing.class_folders import read_folders
from fineclip.importing.coco import kind_of_json, read_coco
from fineclip.importing.finding import SourceFiles, read_lines, split_of
from fineclip.importing.mask_pairs import CLASS_TABLES, looks_like_masks, read_masks
from fineclip.importing.source import ImportOptions, SourceData
from fineclip.importing.voc import read_voc
from fineclip.importing.yolo import is_label_line, read_yolo

READERS: Mapping[str, Callable[[SourceFiles, ImportOptions], SourceData]] = {
    "yolo": read_yolo,
    "voc": read_voc,
    "coco": read_coco,
    "folders": read_folders,
    "masks": read_masks,
    "captions": read_caption_tables,
}
"""Reader by the name of ``--from``."""

_BY_SUFFIX = {
    **dict.fromkeys((".yaml", ".yml", ".data"), "yolo"),
    ".xml": "voc",
    **dict.fromkeys((".csv", ".tsv", ".jsonl", ".ndjson"), "captions"),
}


def guess_format(files: SourceFiles) -> str:
    """The format of a source, one of :data:`READERS`.

    Args:
        files: The source.

    Raises:
        ValueError: It may be several, or none.
    """
    if files.given.is_file():
        found = {_format_of_file(files.given)} - {""}
    else:
        found = _formats_of_folder(files)
    if len(found) == 1:
        return found.pop()
    names = " or ".join(sorted(found)) if found else "none that is known by its files"
    raise ValueError(
        f"{files.given}: which format this is, is not clear ({names}); say it by --from, one of "
        f"{', '.join(READERS)}"
    )


def _format_of_file(path: Path) -> str:
    if path.suffix.lower() == ".json":
        return "coco" if kind_of_json(read_json(path, "annotations")) else "captions"
    return _BY_SUFFIX.get(path.suffix.lower(), "")


def _formats_of_folder(files: SourceFiles) -> set[str]:
    found = set()
    if any(path.name.lower() != "annotations.xml" for path in files.labels(".xml")):
        found.add("voc")
    texts = files.labels(".txt")
    if any(_is_label(path) for path in texts):
        found.add("yolo")
    if "voc" not in found and any(
        kind_of_json(read_json(path, "annotations")) in ("boxes", "captions")
        for path in files.labels(".json")
    ):
        found.add("coco")
    tables = [path for path in files.labels(*TABLES[:-1]) if path.name not in CLASS_TABLES]
    if tables or any(path.stem in TEXT_TABLES for path in texts):
        found.add("captions")
    if looks_like_masks(files):
        found.add("masks")
    if found:
        return found
    images = {path.stem for path in files.images}
    if any(path.stem in images for path in texts):
        return {"captions"}
    folders = {path.relative_to(files.image_root).parts[:-1] for path in files.images}
    classes = {parts[-1] for parts in folders if parts and not split_of(parts[-1:])}
    return {"folders"} if len(classes) > 1 else set()


def _is_label(path: Path) -> bool:
    lines = [line for line in read_lines(path) if line.strip()]
    return bool(lines) and is_label_line(lines[0])
