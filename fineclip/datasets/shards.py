"""Reading region-text data from WebDataset shards, in any order.

A folder of shards holds ``index.json`` and tar files as the ``webdataset`` library reads them: each
sample is an image file and a JSON file under a common key. The index says where in which shard
they lie, so that any sample can be read on its own: shuffling and resuming are exact.

``<key>.json`` holds ``image`` (COCO's entry), ``captions`` (list of strings) and ``annotations``
(COCO's entries: ``id``, ``bbox`` xywh in pixels, ``category_id``, ``iscrowd`` as far as given, and
``caption`` where the region has one).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fineclip.checks import (
    ANY_TEXT,
    FLAG,
    OBJECT,
    TEXT,
    Check,
    check_entries,
    integer_from,
    real,
    shown,
)
from fineclip.datasets.region_source import ImageRecord, ReadSettings
from fineclip.files import parse_json, read_json
from fineclip.paths import require_regular
from fineclip.registry import DATA_PARTS

INDEX = "index.json"
FORMAT = "fineclip-shards"
VERSION = 1
BLOCK = 512  # of a tar file: the header of a member comes before its content

_REMEDY = "make the shards anew, or copy them and their index.json again"

# Of millions of samples: checks by type alone are fast.
_OBJECTS = Check("a list", lambda value: type(value) is list)  # whose items are checked later
_ID = Check("a number or text", lambda value: type(value) in (int, float, str))
_WORDS = Check(
    "a list of text",
    lambda value: type(value) is list and all(type(item) is str for item in value),
)
_PAIRS = Check(
    "a list of pairs of integers, offset and length",
    lambda value: (
        type(value) is list
        and all(type(span) is list and list(map(type, span)) == [int, int] for span in value)
    ),
)
_INDEX = {
    "categories": _OBJECTS,
    "captions": FLAG,
    "region_captions": FLAG,
    "shards": _OBJECTS,
}
_CATEGORY = {"id": _ID, "name": TEXT}
_SHARD = {
    "file": Check(
        "the name of a file beside the index",
        lambda value: isinstance(value, str) and Path(value).name == value not in ("", ".."),
    ),
    "bytes": integer_from(0, 2**62),
    "extensions": _WORDS,
    "images": _PAIRS,
    "annotations": _PAIRS,
}
_RECORD = {"image": OBJECT, "captions": _WORDS, "annotations": _OBJECTS}
_IMAGE = {"id": _ID, "file_name": TEXT, "width": real(1), "height": real(1)}
_ANNOTATION = {
    "id": _ID,
    "bbox": _OBJECTS,
    "category_id": _ID,
    "caption": Check("text or None", lambda value: value is None or type(value) is str),
}


def sample_key(number: int) -> str:
    """The common name of a sample's files; without dots, which end a key in WebDataset."""
    return f"{number:09d}"


@DATA_PARTS.register_module()
class Shards:
    """A folder of shards with its index.

    Args:
        folder: The folder, or its ``index.json``.

    Raises:
        FileNotFoundError: No index, or a shard that it names is missing.
        ValueError: The index is malformed, or a shard has not the size it states.
    """

    def __init__(self, folder: str | Path) -> None:
        path = Path(folder)
        path = path / INDEX if path.is_dir() else path
        index = read_json(path, "shards")
        self.where = str(path)
        where = f"shards: {path}"
        check_entries(index, {"format": ANY_TEXT, "version": integer_from(0)}, where)
        if (index["format"], index["version"]) != (FORMAT, VERSION):
            raise ValueError(
                f"{where}: expected format {FORMAT!r}, version {VERSION}, got "
                f"{shown(index['format'])}, version {index['version']}"
            )
        check_entries(index, _INDEX, where)
        for number, category in enumerate(index["categories"]):
            check_entries(category, _CATEGORY, f"{where}: category {number}", optional=["name"])
        self.categories: Sequence[dict[str, Any]] = index["categories"]
        self.has_captions: bool = index["captions"]
        self.has_region_captions: bool = index["region_captions"]
        self._paths = [_check_shard(shard, path) for shard in index["shards"]]
        if len(set(self._paths)) < len(self._paths):
            raise ValueError(f"{where}: two entries of 'shards' name the same file")
        counts = [len(shard["images"]) for shard in index["shards"]]
        self._shard = np.repeat(np.arange(len(counts)), counts)
        # (N, 2) byte offset and length of every member
        self._images = _spans(index, "images", where)
        self._annotations = _spans(index, "annotations", where)
        extensions = [name for shard in index["shards"] for name in shard["extensions"]]
        self._known_extensions = sorted(set(extensions))
        self._extension = np.searchsorted(self._known_extensions, extensions).astype(np.uint8)

    def __len__(self) -> int:
        return len(self._shard)

    def shard_of(self, numbers: Tensor) -> Tensor:
        """(n,) int64 images -> (n,) int64 shards that they lie in."""
        return torch.from_numpy(self._shard)[numbers]

    def open(self, wanted: ReadSettings) -> _ShardRecords:
        """What is known about the images.

        Raises:
            ValueError: Captions are wanted and there are none.
        """
        if wanted.captions and not self.has_captions:
            raise ValueError(
                f'shards: {self.where}: made without captions, which the field "texts" needs'
            )
        return _ShardRecords(self, wanted)

    def file(self, number: int) -> str:
        """Shard and member of an image."""
        return f"{self._paths[self._shard[number]]}:{self._image_name(number)}"

    def read(self, number: int) -> bytes:
        """The file of an image, undecoded.

        Raises:
            FileNotFoundError: The shard is gone.
            ValueError: The shard is damaged or another one.
        """
        return self._member(number, self._images[number], self._image_name(number))

    def read_record(self, number: int) -> dict[str, Any]:
        """The JSON of an image.

        Raises:
            FileNotFoundError: The shard is gone.
            ValueError: The shard is damaged or another one.
        """
        name = f"{sample_key(number)}.json"
        content = self._member(number, self._annotations[number], name)
        where = f"shard {self._paths[self._shard[number]]}: {name}"
        record = parse_json(content, where)
        check_entries(record, _RECORD, where)
        check_entries(record["image"], _IMAGE, f"{where}: image")
        for place, annotation in enumerate(record["annotations"]):
            there = f"{where}: annotation {place}"
            check_entries(annotation, _ANNOTATION, there, optional=("id", "category_id", "caption"))
        return record

    def _image_name(self, number: int) -> str:
        return f"{sample_key(number)}.{self._known_extensions[self._extension[number]]}"

    def _member(self, number: int, span: np.ndarray, name: str) -> bytes:
        path = self._paths[self._shard[number]]
        offset, length = span.tolist()
        try:
            require_regular(path)
            # Unbuffered: one read of what is needed, the member's header included.
            with path.open("rb", buffering=0) as file:
                file.seek(offset - BLOCK)
                data = file.read(BLOCK + length)
        except FileNotFoundError:
            raise FileNotFoundError(f"shard {path} is gone") from None
        if len(data) != BLOCK + length:
            raise ValueError(f"shard {path} ends within {name}; {_REMEDY}")
        # A ustar header begins with the name; the size stands in it as octal digits.
        found, size = data[:100].rstrip(b"\0"), data[124:136].rstrip(b" \0")
        if found != name.encode() or size != f"{length:o}".zfill(len(size)).encode():
            raise ValueError(
                f"shard {path} does not fit its index: {name} should be at byte {offset}, "
                f"{length} bytes long; {_REMEDY}"
            )
        return data[BLOCK:]


class _ShardRecords:
    def __init__(self, shards: Shards, wanted: ReadSettings) -> None:
        self._shards, self._wanted = shards, wanted
        self.categories = shards.categories

    def __len__(self) -> int:
        return len(self._shards)

    def records(self, numbers: Sequence[int]) -> Iterator[ImageRecord]:
        wanted = self._wanted
        for number in numbers:
            record = self._shards.read_record(number)
            annotations = record["annotations"] if wanted.annotations else ()
            captions = None
            if self._shards.has_region_captions and wanted.region_captions:
                captions = [annotation.get("caption") for annotation in annotations]
            yield ImageRecord(
                record["image"],
                record["captions"] if wanted.captions else (),
                annotations,
                captions,
            )


def _check_shard(shard: Any, index: Path) -> Path:
    """The file that an entry of the index is about.

    Raises:
        FileNotFoundError: There is none.
        ValueError: The entry is malformed, or the file has another size.
    """
    where = f"shards: {index}"
    check_entries(shard, _SHARD, f"{where}: an entry of 'shards'")
    file = index.parent / shard["file"]
    if not file.is_file():
        raise FileNotFoundError(f"{where} names {file.name}, which is not beside it")
    if (size := file.stat().st_size) != shard["bytes"]:
        what = "is truncated" if size < shard["bytes"] else "does not fit its index"
        raise ValueError(
            f"shard {file} {what}: {size} bytes, the index says {shard['bytes']}; {_REMEDY}"
        )
    images = len(shard["images"])
    for kind in ("annotations", "extensions"):
        if len(shard[kind]) != images:
            raise ValueError(
                f"{where}: {file.name} has {len(shard[kind])} entries of {kind!r} for {images} "
                "images"
            )
    return file


def _spans(index: dict[str, Any], kind: str, where: str) -> np.ndarray:
    tables = []
    for shard in index["shards"]:
        try:
            spans = np.array(shard[kind], dtype=np.int64).reshape(-1, 2)
        except OverflowError:
            spans = np.full((1, 2), -1)  # lies outside of any file
        offset, length = spans.T
        outside = (offset < BLOCK) | (length < 0) | (length > shard["bytes"] - offset)
        if outside.any():
            raise ValueError(
                f"{where}: {kind!r} of {shard['file']} lie outside of the file; {_REMEDY}"
            )
        tables.append(spans)
    return np.concatenate(tables) if tables else np.zeros((0, 2), np.int64)
