"""WebDataset shards: img2dataset's output as it is, and our own."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Container, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fineclip.annotation.caption_tables import captions_of_metadata
from fineclip.annotation.records import MAX_TEXT_BYTES, InputImage, KnownBox
from fineclip.checks import is_number
from fineclip.datasets.shards import INDEX, checked_record
from fineclip.files import read_json
from fineclip.images import IMAGE_SUFFIXES, MAX_BYTES


@dataclass(frozen=True)
class TarShard:
    """A tar file with an image, a caption and metadata under each key.

    Attributes:
        name: For messages.
        path: The file.
        categories: Names of categories by id, of our own shards.
    """

    name: str
    path: Path
    categories: dict[Any, str]

    def __len__(self) -> int:
        with suppress(tarfile.TarError, OSError, EOFError), tarfile.open(self.path, "r:") as tar:
            return sum(1 for _ in _samples(tar))
        return 0

    def images(self, wanted: Container[int] | None = None) -> Iterator[InputImage]:
        """Reads the samples in their order.

        What is left of a damaged file is one more image that cannot be used.
        """
        position = 0
        try:
            with tarfile.open(self.path, "r:") as tar:
                for key, members in _samples(tar):
                    if wanted is None or position in wanted:
                        yield self._image(position, key, members, tar)
                    position += 1
                damaged = _has_more(tar, self.path)
        except (tarfile.TarError, OSError, EOFError, ValueError, UnicodeError):
            damaged = True
        if damaged and (wanted is None or position in wanted):
            yield InputImage(position, self.name, refusal="shard is damaged, the rest is lost")

    def _image(
        self, position: int, key: str, members: dict[str, tarfile.TarInfo], tar: tarfile.TarFile
    ) -> InputImage:
        suffix = next((end for end in members if f".{end}" in IMAGE_SUFFIXES), None)
        file_name = f"{self.path.stem}/{key}.{suffix or 'jpg'}"
        if any("\ud800" <= character <= "\udfff" for character in file_name):
            return InputImage(position, self.name, refusal="file name is not UTF-8")
        if suffix is None:
            return InputImage(position, file_name, refusal="sample has no image")
        try:
            content = _content(tar, members[suffix], MAX_BYTES)
            captions: list[str | bytes] = []
            if "txt" in members:
                captions.append(_content(tar, members["txt"], MAX_TEXT_BYTES))
            metadata = {}
            if "json" in members:
                metadata = captions_of_metadata(_content(tar, members["json"], MAX_TEXT_BYTES))
        except (tarfile.TarError, OSError, EOFError):
            return InputImage(position, file_name, refusal="sample is cut off")
        except ValueError as error:
            return InputImage(position, file_name, refusal=_reason(error))
        try:
            return InputImage(
                position,
                *_own(metadata, file_name, content, captions, self.categories),
                unsafe=_unsafe(metadata),
            )
        except (TypeError, ValueError, OverflowError):
            return InputImage(position, file_name, refusal="metadata are malformed")


class TarSource:
    """A folder of tar files, or one.

    Args:
        path: The folder or file. Beside our own shards, ``index.json`` has their categories.

    Raises:
        ValueError: There are no tar files.
    """

    captioned = True
    total: int | None = None

    def __init__(self, path: Path) -> None:
        self._paths = sorted(path.glob("*.tar")) if path.is_dir() else [path]
        if not self._paths:
            raise ValueError(f"{path}: there are no shards (*.tar)")
        listed: Sequence[Any] = ()
        folder = path if path.is_dir() else path.parent
        if (folder / INDEX).is_file():
            index = read_json(folder / INDEX, "shards")
            listed = index.get("categories", ()) if isinstance(index, dict) else ()
        self._names = {
            entry["id"]: entry["name"]
            for entry in listed
            if isinstance(entry, dict) and "id" in entry and isinstance(entry.get("name"), str)
        }
        self.categories: Sequence[str] = list(dict.fromkeys(self._names.values()))
        self.notes: dict[str, int] = {}
        files = [(file.name, file.stat().st_size) for file in self._paths]
        self.identity: dict[str, Any] = {
            "kind": "webdataset",
            "shards": len(files),
            "listing": hashlib.blake2b(repr(files).encode(), digest_size=16).hexdigest(),
        }

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, number: int) -> TarShard:
        if not 0 <= number < len(self):
            raise IndexError(number)
        path = self._paths[number]
        return TarShard(path.name, path, self._names)


def _samples(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Members that follow each other under one key, by what comes after the key."""
    current: str | None = None
    members: dict[str, tarfile.TarInfo] = {}
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # it would keep all of them
        if not member.isfile():
            continue
        folder, slash, base = member.name.rpartition("/")
        key, _, suffix = base.partition(".")
        key = folder + slash + key
        if key != current:
            if current is not None:
                yield current, members
            current, members = key, {}
        members[suffix.lower()] = member
    if current is not None:
        yield current, members


def _has_more(tar: tarfile.TarFile, path: Path) -> bool:
    """Whether something comes after what was taken for the end: a header that is damaged."""
    with path.open("rb") as file:
        file.seek(tar.offset)
        return any(file.read(tarfile.BLOCKSIZE))


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    if member.size > most:
        raise ValueError("sample has too many bytes")
    file = tar.extractfile(member)
    content = b"" if file is None else file.read()
    if len(content) != member.size:
        raise EOFError(member.name)
    return content


def _reason(error: ValueError) -> str:
    text = str(error)
    return "metadata are not valid JSON" if "not valid JSON" in text else text


def _unsafe(metadata: dict[str, Any]) -> float | None:
    value: Any = metadata.get("punsafe")
    return float(value) if is_number(value) else None


def _own(
    metadata: dict[str, Any],
    file_name: str,
    content: bytes,
    captions: list[str | bytes],
    categories: dict[Any, str],
) -> tuple[str, bytes, list[str | bytes], list[KnownBox], Any, tuple[int, int] | None]:
    """File name, content, captions, boxes, id and size of an image.

    Raises:
        TypeError, ValueError, OverflowError: What our own shards say is malformed.
    """
    if not {"image", "annotations"} <= metadata.keys():
        if not captions and isinstance(metadata.get("caption"), str):
            captions = [metadata["caption"]]
        return file_name, content, captions, [], None, None
    image = checked_record(metadata, "metadata")["image"]
    boxes = []
    for annotation in metadata["annotations"]:
        if annotation.get("iscrowd"):
            continue
        x, y, width, height = map(float, annotation["bbox"])
        caption = annotation.get("caption")
        boxes.append(
            KnownBox(
                (x, y, width, height),
                categories.get(annotation.get("category_id"), ""),
                caption if isinstance(caption, str) else None,
                float(annotation.get("score", 1.0)),
            )
        )
    captions = [*captions, *metadata["captions"]]
    size = (int(image["width"]), int(image["height"]))
    return image["file_name"], content, captions, boxes, image["id"], size
