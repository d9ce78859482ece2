"""Data sets that register themselves with detectron2: of a description, or of a user's program."""

from __future__ import annotations

import functools
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from fineclip.datasets.description import DataDescription, SplitFiles, read_description
from fineclip.datasets.label_pairs import list_pairs

_programs: set[Path] = set()


def set_name(description: DataDescription, split: str) -> str:
    """What detectron2 calls a split of a described data set: ``NAME_SPLIT_sem_seg``."""
    return f"{description.name}_{split}_sem_seg"


def register_described(files: Sequence[str | Path]) -> list[DataDescription]:
    """Registers each split with label maps of described data sets.

    A process started afresh has to call this itself. A second call takes the place of the first.
    Of a data set with novel classes, the training split has the base classes alone, and the pixels
    of the novel ones are ignored; the others have all classes.

    Args:
        files: Descriptions, see :func:`fineclip.datasets.description.read_description`.

    Returns:
        What they say.

    Raises:
        FileNotFoundError: A description does not exist.
        ValueError: It is malformed.
    """
    found = [read_description(file) for file in files]
    for description in found:
        for split, split_files in description.splits.items():
            if split_files.masks is not None:
                _register(description, split, split_files)
    return found


def _register(description: DataDescription, split: str, files: SplitFiles) -> None:
    name, vocabulary = set_name(description, split), description.vocabulary
    places = list(range(len(vocabulary)))
    base = list(vocabulary.indices("base")) or places
    label_map = None
    if split == "train" and len(base) < len(places):
        places = base
        label_map = [
            base.index(k) if k in base else description.ignore_label for k in range(len(vocabulary))
        ]
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)  # a value of metadata can be set once only
    load = functools.partial(_load, name, files, label_map, str(description.file))
    DatasetCatalog.register(name, load)
    metadata: dict[str, Any] = {
        "stuff_classes": [vocabulary.names[k] for k in places],
        "prompt_classes": [", ".join(vocabulary.synonyms[k]) for k in places],
        "ignore_label": description.ignore_label,
        "evaluator_type": "sem_seg",
        "image_root": str(files.images),
        "sem_seg_root": str(files.masks),
    }
    if len(base) < len(vocabulary):
        metadata["seen_classes"] = [vocabulary.names[k] for k in base]
    MetadataCatalog.get(name).set(**metadata)


def _load(
    name: str, files: SplitFiles, label_map: Sequence[int] | None, origin: str
) -> list[dict[str, Any]]:
    assert files.masks is not None  # it would not be registered
    records = list_pairs(
        files.images,
        files.masks,
        image_suffix=None,
        complete=False,
        name=f"data set {name}",
        advice=f" (it is described in {origin})",
    )
    return [{**r, "label_map": label_map} for r in records] if label_map else records


def run_registrations(programs: Sequence[str | Path]) -> None:
    """Runs programs that register data sets, each once in a process.

    They are named on the command line; no configuration can name one, since configurations lie
    beside weights of others.

    Args:
        programs: Python files. What they keep under ``if __name__ == "__main__"`` does not run.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: One raises something; the message names file and line.
    """
    for program in programs:
        path = Path(program).resolve()
        if path in _programs:
            continue
        if not path.is_file():
            raise FileNotFoundError(f"--register: {program} does not exist")
        if str(path.parent) not in sys.path:
            sys.path.append(str(path.parent))  # what lies beside it may be imported, now or later
        try:
            runpy.run_path(str(path), run_name=path.stem)
        except (Exception, SystemExit) as error:
            raise ValueError(f"--register: {_place(error, path)}: {_said(error)}") from error
        _programs.add(path)


def _place(error: BaseException, path: Path) -> str:
    """File and line of what a program has raised."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{path}, line {error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    return f"{path}, line {frames[-1].lineno}" if frames else str(path)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
