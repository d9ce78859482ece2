"""Reading region-text data from WebDataset shards, in any order.

A folder of shards holds ``index.json`` and tar files as the ``webdataset`` library reads them: each
sample is an image file and a JSON file under a common key. The index says where in which shard
they lie, so that any sample can be read on its own: shuffling and resuming are exact.

``<key>.json`` holds ``image`` (COCO's entry), ``captions`` (list of strings) and ``annotations``
(COCO's entries: ``id``, ``bbox`` xywh in pixels, ``category_id``, ``iscrowd``, ``score`` as far as
given, and ``caption`` where the region has one). The same records stand in a file of lines beside
each tar file, from which a data set is opened in one go; shards of earlier versions have none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
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
_RECORDS = {"file": _SHARD["file"], "bytes": _SHARD["bytes"]}
_SCATTERED = 8
"""A file of records is read as a whole where at least one in so many of them is wanted."""
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
        self.categories: Sequence[Mapping[str, Any]] = index["categories"]
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
        self._records = [
            path.parent / entry["records"]["file"] if "records" in entry else None
            for entry in index["shards"]
        ]
        starts = np.cumsum([0, *counts])[:-1]
        # Keys count on from shard to shard, unless the index says otherwise.
        firsts = [
            entry.get("first", start) for entry, start in zip(index["shards"], starts, strict=True)
        ]
        self._starts = starts
        self._offset = np.array(firsts, np.int64) - starts
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
        name = f"{self._key(number)}.json"
        content = self._member(number, self._annotations[number], name)
        where = f"shard {self._paths[self._shard[number]]}: {name}"
        return checked_record(parse_json(content, where), where)

    def read_in_order(self, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
        """The JSON of some images, one shard after the other.

        Args:
            numbers: Ascending.

        Raises:
            FileNotFoundError: A shard is gone.
            ValueError: A shard is damaged or another one.
        """
        shards = self._shard[np.asarray(numbers, np.int64)]
        edges = [0, *(np.flatnonzero(np.diff(shards)) + 1).tolist(), len(shards)]
        for start, end in pairwise(edges):
            if start < end:
                yield from self.read_records(int(shards[start]), numbers[start:end])

    def read_records(self, shard: int, wanted: Sequence[int]) -> Iterator[dict[str, Any]]:
        """The JSON of some images of one shard, ascending.

        Raises:
            FileNotFoundError: The shard, or its file of records, is gone.
            ValueError: It is damaged or another one.
        """
        path = self._records[shard]
        if path is None or len(wanted) * _SCATTERED < (self._shard == shard).sum():
            for number in wanted:
                yield self.read_record(number)
            return
        places, number = iter(wanted), int(self._starts[shard])
        place = next(places, None)
        with path.open("rb") as lines:
            for line in lines:
                if number == place:
                    where = f"{path}: {self._key(number)}"
                    record = checked_record(parse_json(line, where), where)
                    if number == wanted[0] and record != self.read_record(number):
                        raise ValueError(f"{where} is another one in the shard; {_REMEDY}")
                    yield record
                    place = next(places, None)
                number += 1
        if place is not None:
            raise ValueError(f"{path} ends before its shard does; {_REMEDY}")

    def _key(self, number: int) -> str:
        return sample_key(int(number + self._offset[self._shard[number]]))

    def _image_name(self, number: int) -> str:
        return f"{self._key(number)}.{self._known_extensions[self._extension[number]]}"

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
        for record in self._shards.read_in_order(numbers):
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
    file = _check_size(shard, index)
    if "first" in shard:
        integer_from(0, 2**53).require(shard["first"], f"{where}: {file.name}: key 'first'")
    if "records" in shard:
        check_entries(shard["records"], _RECORDS, f"{where}: {file.name}: key 'records'")
        _check_size(shard["records"], index)
    images = len(shard["images"])
    for kind in ("annotations", "extensions"):
        if len(shard[kind]) != images:
            raise ValueError(
                f"{where}: {file.name} has {len(shard[kind])} entries of {kind!r} for {images} "
                "images"
            )
    return file


def _check_size(entry: Mapping[str, Any], index: Path) -> Path:
    """The file of a name and a size.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It has another size.
    """
    file = index.parent / entry["file"]
    if not file.is_file():
        raise FileNotFoundError(f"shards: {index} names {file.name}, which is not beside it")
    if (size := file.stat().st_size) != entry["bytes"]:
        what = "is truncated" if size < entry["bytes"] else "does not fit its index"
        raise ValueError(
            f"shard {file} {what}: {size} bytes, the index says {entry['bytes']}; {_REMEDY}"
        )
    return file


def checked_record(record: Any, where: str) -> dict[str, Any]:
    """Refuses JSON that is no record of a shard.

    Args:
        record: Any parsed JSON.
        where: File and place, for the message.

    Returns:
        The same.

    Raises:
        ValueError: It is not.
    """
    check_entries(record, _RECORD, where)
    check_entries(record["image"], _IMAGE, f"{where}: image")
    for place, annotation in enumerate(record["annotations"]):
        there = f"{where}: annotation {place}"
        check_entries(annotation, _ANNOTATION, there, optional=("id", "category_id", "caption"))
    return record


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
