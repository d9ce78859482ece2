"""Which evaluation files a COCO-format folder holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fineclip.files import read_json

DEFAULT_SPLITS = ("val2017", "val")
"""Tried in this order: COCO's name, then the one of the built-in scenes."""


@dataclass(frozen=True)
class EvaluationFiles:
    """Files of one split; None where the folder has none.

    Args:
        image_root: Folder of the images.
        panoptic: Panoptic JSON.
        panoptic_root: Folder of the panoptic PNGs.
        instances: Instances JSON.
        captions: Captions JSON.
    """

    image_root: Path
    panoptic: Path | None = None
    panoptic_root: Path | None = None
    instances: Path | None = None
    captions: Path | None = None


def find_files(data_root: str | Path, split: str | None = None) -> EvaluationFiles:
    """Looks for the files of one split.

    Expected are ``<split>/`` with the images and in ``annotations/`` any of
    ``panoptic_<split>.json`` with the folder ``panoptic_<split>/``, ``instances_<split>.json``
    and ``captions_<split>.json``.

    Args:
        data_root: Root of the data set.
        split: Name of the split; None takes the first of :data:`DEFAULT_SPLITS` that exists.

    Returns:
        What there is. Panoptic files count only if both the JSON and its PNG folder exist.

    Raises:
        FileNotFoundError: The root or the image folder is missing.
    """
    root = Path(data_root)
    if not root.is_dir():
        raise FileNotFoundError(f"data root {root} is not a folder")
    candidates = (split,) if split else DEFAULT_SPLITS
    found = next((name for name in candidates if (root / name).is_dir()), None)
    if found is None:
        folders = " or ".join(f"{name}/" for name in candidates)
        raise FileNotFoundError(f"{root} has no image folder {folders}; name one with the split")
    annotations = root / "annotations"
    files = EvaluationFiles(
        image_root=root / found,
        instances=_if_file(annotations / f"instances_{found}.json"),
        captions=_if_file(annotations / f"captions_{found}.json"),
    )
    panoptic = annotations / f"panoptic_{found}.json"
    if panoptic.is_file() and panoptic.with_suffix("").is_dir():
        files = replace(files, panoptic=panoptic, panoptic_root=panoptic.with_suffix(""))
    return files


def use_annotations(files: EvaluationFiles, paths: Sequence[str | Path]) -> EvaluationFiles:
    """Replaces annotation files by given ones; what each is follows from its content.

    Args:
        files: Files found so far.
        paths: JSON files: panoptic (``segments_info``; its PNGs in a folder of the same name
            beside it), captions (``caption``, or a list of images with captions) or instances
            (``bbox``). Given boxes of one kind put the found ones of the other kind aside.

    Returns:
        The files to use.

    Raises:
        FileNotFoundError: A missing file, or a panoptic file without its PNG folder.
        ValueError: Not JSON, or none of the kinds above.
    """
    for path in map(Path, paths):
        kind = _kind_of(path)
        if kind == "panoptic":
            folder = path.with_suffix("")
            if not folder.is_dir():
                raise FileNotFoundError(f"{path}: its PNG folder {folder} does not exist")
            files = replace(files, panoptic=path, panoptic_root=folder, instances=None)
        elif kind == "instances":
            files = replace(files, instances=path, panoptic=None, panoptic_root=None)
        else:
            files = replace(files, captions=path)
    return files


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _kind_of(path: Path) -> str:
    data = read_json(path, "annotations")
    entries = data.get("annotations") if isinstance(data, Mapping) else data
    first = entries[0] if isinstance(entries, list) and entries else None
    for key, kind in (
        ("segments_info", "panoptic"),
        ("caption", "captions"),
        ("bbox", "instances"),
    ):
        if isinstance(first, Mapping) and key in first:
            return kind
    raise ValueError(
        f"annotations: {path} holds neither panoptic segments, captions nor instances "
        "(its first annotation has none of segments_info, caption, bbox)"
    )
