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

from fineclip.datasets.region_source import ImageRecord, ReadSettings
from fineclip.files import parse_json, read_json, require_keys
from fineclip.registry import DATA_PARTS

INDEX = "index.json"
FORMAT = "fineclip-shards"
VERSION = 1
BLOCK = 512  # of a tar file: the header of a member comes before its content

_REMEDY = "make the shards anew, or copy them and their index again"


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
        keys = ["format", "version", "categories", "captions", "region_captions", "shards"]
        require_keys(index, keys, where)
        if (index["format"], index["version"]) != (FORMAT, VERSION):
            raise ValueError(
                f"{where}: expected format {FORMAT!r}, version {VERSION}, got "
                f"{index['format']!r}, version {index['version']!r}"
            )
        self.categories: Sequence[dict[str, Any]] = index["categories"]
        self.has_captions = bool(index["captions"])
        self.has_region_captions = bool(index["region_captions"])
        self._paths = [path.parent / str(shard.get("file")) for shard in index["shards"]]
        for shard, file in zip(index["shards"], self._paths, strict=True):
            require_keys(shard, ["file", "bytes", "extensions", "images", "annotations"], where)
            if not file.is_file():
                raise FileNotFoundError(f"{where} names {file.name}, which is not beside it")
            if (size := file.stat().st_size) != shard["bytes"]:
                what = "is truncated" if size < shard["bytes"] else "does not fit its index"
                raise ValueError(
                    f"shard {file} {what}: {size} bytes, the index says {shard['bytes']}; {_REMEDY}"
                )
        counts = [len(shard["images"]) for shard in index["shards"]]
        self._shard = np.repeat(np.arange(len(counts)), counts)
        # (N, 2) byte offset and length of every member
        self._images = _spans(index, "images", counts, where)
        self._annotations = _spans(index, "annotations", counts, where)
        extensions = [name for shard in index["shards"] for name in shard["extensions"]]
        if len(extensions) != sum(counts):
            raise ValueError(f"{where}: {len(extensions)} extensions for {sum(counts)} images")
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
        require_keys(record, ["image", "captions", "annotations"], where)
        return record

    def _image_name(self, number: int) -> str:
        return f"{sample_key(number)}.{self._known_extensions[self._extension[number]]}"

    def _member(self, number: int, span: np.ndarray, name: str) -> bytes:
        path = self._paths[self._shard[number]]
        offset, length = span.tolist()
        try:
            # Unbuffered: one read of what is needed, the member's header included.
            with path.open("rb", buffering=0) as file:
                file.seek(offset - BLOCK)
                data = file.read(BLOCK + length)
        except FileNotFoundError:
            raise FileNotFoundError(f"shard {path} is gone") from None
        if len(data) != BLOCK + length:
            raise ValueError(f"shard {path} ends within {name}; {_REMEDY}")
        found = data[:100].rstrip(b"\0")  # a ustar header begins with the name
        if found != name.encode():
            raise ValueError(
                f"shard {path} does not fit its index: {name} should be at byte {offset}; {_REMEDY}"
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


def _spans(index: dict[str, Any], kind: str, counts: list[int], where: str) -> np.ndarray:
    spans = [span for shard in index["shards"] for span in shard[kind]]
    try:
        table = np.array(spans, dtype=np.int64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: {kind!r} must be pairs of offset and length") from None
    if len(table) != sum(counts):
        raise ValueError(f"{where}: {len(table)} entries of {kind!r} for {sum(counts)} images")
    ends = np.repeat([shard["bytes"] for shard in index["shards"]], counts)
    if (table[:, 0] < BLOCK).any() or (table.sum(1) > ends).any():
        raise ValueError(f"{where}: {kind!r} lie outside of their shards; {_REMEDY}")
    return table
