"""One description of a data set, ``data.yaml``, which every command takes with ``--data``.

It stands beside the data and says where they are and what they show::

    name: parts
    classes:
      - widget
      - bolt: [screw, threaded bolt]
    novel: [bolt]
    train:
      images: train
      annotations: annotations/instances_train.json
    val:
      images: val
      annotations: annotations/instances_val.json
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from fineclip.checks import TEXT, integer_from, shown
from fineclip.files import read_yaml, require_file, require_folder, write_atomically
from fineclip.text.class_lists import categories_of
from fineclip.text.vocabulary import Vocabulary

DESCRIPTION_FILE = "data.yaml"
SPLITS = ("train", "val", "test")
IGNORE_LABEL = 255
"""Value of label maps that is no class, where a description names none."""

_KEYS = ("name", "classes", "novel", "ignore_label", *SPLITS)
_NAME = re.compile(r"[A-Za-z0-9][\w-]*")


@dataclass(frozen=True)
class SplitFiles:
    """Files of one split; None where it has none.

    Attributes:
        images: Folder of the images.
        annotations: COCO instances JSON: boxes, perhaps with masks.
        masks: Folder of label maps ``STEM.png``, one per image, whose values are class indices.
        captions: COCO captions JSON.
        region_captions: Captions of the boxes, see
            :class:`fineclip.datasets.region_captions.RegionCaptions`.
    """

    images: Path
    annotations: Path | None = None
    masks: Path | None = None
    captions: Path | None = None
    region_captions: Path | None = None


_FILES = tuple(field.name for field in fields(SplitFiles))
_FOLDERS = ("images", "masks")


@dataclass(frozen=True)
class DataDescription:
    """What a ``data.yaml`` says.

    Attributes:
        file: The file itself.
        name: Name of the data set.
        vocabulary: Its classes in label order, without ids: annotation files have their own, and
            classes are found in them by name.
        splits: Files by split, paths as one opens them from the working directory.
        ignore_label: Value of label maps that is no class.
    """

    file: Path
    name: str
    vocabulary: Vocabulary
    splits: Mapping[str, SplitFiles]
    ignore_label: int = IGNORE_LABEL

    @property
    def evaluation_split(self) -> str:
        """``"val"``, or ``"test"`` where there is none.

        Raises:
            ValueError: There is neither.
        """
        for split in ("val", "test"):
            if split in self.splits:
                return split
        raise ValueError(
            f"{self.file} has neither 'val' nor 'test', so there is nothing to evaluate on; "
            "tools/import_data.py --split 0.8 0.1 0.1 divides the data"
        )

    def require(self, split: str, *kinds: str) -> SplitFiles:
        """The files of a split, with certain of them at hand.

        Args:
            split: ``"train"``, ``"val"`` or ``"test"``.
            *kinds: Fields of :class:`SplitFiles` that are needed beside the images.

        Raises:
            ValueError: The split, or one of these, is not in the description.
            FileNotFoundError: A file or folder does not exist.
        """
        if split not in self.splits:
            known = ", ".join(self.splits)
            raise ValueError(f"{self.file} has no split {split!r}, which is needed; it has {known}")
        files = self.splits[split]
        for kind in ("images", *kinds):
            path = getattr(files, kind)
            if path is None:
                raise ValueError(
                    f"{self.file}: {split}: missing key {kind!r}, which is needed for this"
                )
            (require_folder if kind in _FOLDERS else require_file)(
                path, f"{self.file}: {split}: {kind}"
            )
        return files


def read_description(file: str | Path) -> DataDescription:
    """Reads a description.

    Args:
        file: A YAML file, or a folder that holds a ``data.yaml``. Paths in it are relative to its
            folder.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is no YAML, lacks a key, or has one that is unknown or malformed; the message
            names file and key.
    """
    file = Path(file)
    if file.is_dir():
        file /= DESCRIPTION_FILE
    what = "description of a data set"
    where = f"{what}: {file}"
    data = read_yaml(file, what)
    categories = categories_of(data, where)
    for key in data:
        _require_known(key, _KEYS, where)
    name = data.get("name", _folder_name(file))
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"{where}: name: expected letters, digits, _ and - alone, got {shown(name)}"
        )
    ignore_label = data.get("ignore_label", IGNORE_LABEL)
    integer_from(0, 65535).require(ignore_label, f"{where}: ignore_label")
    if ignore_label < len(categories["categories"]):
        raise ValueError(f"{where}: ignore_label: {ignore_label} is the number of a class")
    splits = {
        split: _split(data[split], file.parent, f"{where}: {split}")
        for split in SPLITS
        if split in data
    }
    if not splits:
        raise ValueError(f"{where}: expected at least one of the keys {', '.join(SPLITS)}")
    vocabulary = Vocabulary.from_dict({"name": name, **categories}, where)
    return DataDescription(file, name, vocabulary, splits, ignore_label)


def write_description(description: DataDescription) -> None:
    """Writes a description to its file, with paths relative to the folder of that.

    Raises:
        OSError: The folder does not exist or cannot be written to.
    """
    folder = description.file.parent
    data: dict[str, Any] = {
        "name": description.name,
        "classes": [
            {c.name: others} if (others := [s for s in c.synonyms if s != c.name]) else c.name
            for c in description.vocabulary.categories
        ],
    }
    names = description.vocabulary.names
    if novel := [names[index] for index in description.vocabulary.indices("novel")]:
        data["novel"] = novel
    if description.ignore_label != IGNORE_LABEL:
        data["ignore_label"] = description.ignore_label
    for split, files in description.splits.items():
        data[split] = {
            kind: Path(os.path.relpath(path, folder)).as_posix()
            for kind in _FILES
            if (path := getattr(files, kind)) is not None
        }
    text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
    write_atomically(description.file, text)


def _folder_name(file: Path) -> str:
    """The name of a data set that has none: its folder's, without what names may not hold."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", file.absolute().parent.name).strip("-_") or "data"


def _split(entry: Any, folder: Path, where: str) -> SplitFiles:
    if not isinstance(entry, Mapping) or "images" not in entry:
        raise ValueError(
            f"{where}: expected the key 'images', a folder, and perhaps {', '.join(_FILES[1:])}; "
            f"got {shown(entry)}"
        )
    for key, value in entry.items():
        _require_known(key, _FILES, where)
        TEXT.require(value, f"{where}: {key}")
    return SplitFiles(**{key: Path(folder, value).expanduser() for key, value in entry.items()})


def _require_known(key: Any, known: tuple[str, ...], where: str) -> None:
    if key not in known:
        close = get_close_matches(str(key), known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        raise ValueError(f"{where}: unknown key {key!r}; {hint}")
