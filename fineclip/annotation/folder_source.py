"""A folder of images, with captions and boxes from files beside it."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fineclip.annotation.caption_tables import CaptionTable
from fineclip.annotation.records import MAX_TEXT_BYTES, InputImage, KnownBox, countable
from fineclip.annotations import read_boxes
from fineclip.datasets.region_captions import RegionCaptions
from fineclip.images import IMAGE_SUFFIXES, UnusableImageError, read_bytes
from fineclip.paths import inside, leaves_folder, require_regular

Captions = Sequence[str | bytes]


@dataclass(frozen=True)
class FileEntry:
    """An image file and what is known about it.

    Attributes:
        file_name: Relative to the folder, with the separators of POSIX.
        captions: From a table.
        sidecar: File beside the image whose content is its caption; None: there is none.
        boxes: Known ones.
        image_id: In COCO's files.
        size: That COCO's files state.
    """

    file_name: str
    captions: Captions = ()
    sidecar: str | None = None
    boxes: Sequence[KnownBox] = ()
    image_id: int | str | None = None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class FilesShard:
    """Some of the files.

    Attributes:
        name: For messages.
        root: The folder.
        entries: What there is.
    """

    name: str
    root: Path
    entries: Sequence[FileEntry]

    def __len__(self) -> int:
        return len(self.entries)

    def images(self, wanted: Container[int] | None = None) -> Iterator[InputImage]:
        """Reads the files; see :class:`fineclip.annotation.records.InputShard`."""
        for position, entry in enumerate(self.entries):
            if wanted is not None and position not in wanted:
                continue
            try:
                entry.file_name.encode()
                content = read_bytes(inside(self.root, entry.file_name))
                captions = [*entry.captions, *self._sidecar(entry)]
            except UnusableImageError as error:
                refusal = countable(f"image {error.reason}")
            except UnicodeEncodeError:
                refusal = "file name is not UTF-8"
            except OSError:
                refusal = "caption cannot be read"
            except ValueError:
                refusal = "image lies outside of the folder"
            else:
                yield InputImage(
                    *(position, entry.file_name, content, captions),
                    *(entry.boxes, entry.image_id, entry.size),
                )
                continue
            yield InputImage(position, entry.file_name, refusal=refusal)

    def _sidecar(self, entry: FileEntry) -> Captions:
        if entry.sidecar is None:
            return ()
        path = inside(self.root, entry.sidecar)
        require_regular(path)
        with path.open("rb") as file:
            return [file.read(MAX_TEXT_BYTES)]


class FolderSource:
    """A folder of images.

    The images are those that COCO's files list; without such files, all images of the folder and
    whatever else a table of captions names. They are taken in the order of the file, else of names.

    Args:
        root: The folder.
        captions: :class:`CaptionTable`'s file. Without one, files ``NAME.txt`` beside images are
            their captions.
        annotations: COCO instances or proposals JSON.
        region_captions: Captions of its boxes.
        shard_size: Images of a shard.
        leave_out: A folder below ``root`` that is not looked into.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: A file is malformed, or there is no image.
    """

    def __init__(
        self,
        root: Path,
        *,
        captions: Path | None = None,
        annotations: Path | None = None,
        region_captions: Path | None = None,
        shard_size: int = 1000,
        leave_out: Path | None = None,
    ) -> None:
        self._root, self._size = root, shard_size
        counts: Counter[str] = Counter()
        table = CaptionTable(captions) if captions is not None else None
        boxes: dict[str, FileEntry] = {}
        self.categories: Sequence[str] = ()
        if annotations is not None:
            boxes, self.categories = _known_boxes(annotations, region_captions, counts)
        elif region_captions is not None:
            raise ValueError("--region-captions are of the boxes of --annotations: give both")
        found: list[str] = []
        sidecars: set[str] = set()
        if not boxes and not (table and table.ids):
            found, sidecars = _files_of(root, leave_out)
        by_name = _by_file_name(table, found or list(boxes), root) if table else {}
        names = list(boxes or (table.captions if table and table.ids else ())) or sorted(
            {*found, *by_name}
        )
        if not names:
            raise ValueError(f"{root}: there is no image in it, nor shards (*.tar)")
        self._entries = [
            self._entry(name, boxes.get(name), by_name, sidecars, table) for name in names
        ]
        self.captioned = table is not None or bool(sidecars)
        if table is not None:
            counts.update(table.notes)
        self.notes: dict[str, int] = dict(sorted((+counts).items()))
        self.total: int | None = len(self._entries)
        self.identity: dict[str, Any] = {
            "kind": "folder",
            "images": self.total,
            "listing": _digest(self._entries),
        }

    def __len__(self) -> int:
        return -(-len(self._entries) // self._size)

    def __getitem__(self, number: int) -> FilesShard:
        if not 0 <= number < len(self):
            raise IndexError(number)
        start = number * self._size
        end = min(start + self._size, len(self._entries))
        return FilesShard(f"images {start} to {end - 1}", self._root, self._entries[start:end])

    def _entry(
        self,
        name: str,
        known: FileEntry | None,
        captions: Mapping[str, Captions],
        sidecars: Container[str],
        table: CaptionTable | None,
    ) -> FileEntry:
        sidecar = f"{name.rpartition('.')[0]}.txt"
        return FileEntry(
            name,
            captions.get(name, ()),
            sidecar if table is None and sidecar in sidecars else None,
            known.boxes if known else (),
            known.image_id if known else table.ids.get(name) if table else None,
            known.size if known else None,
        )


def _files_of(root: Path, leave_out: Path | None) -> tuple[list[str], set[str]]:
    """Names of images and of text files below a folder, links followed, hidden ones left out."""
    images, texts = [], set()
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        stat = here.stat()
        # A link may lead to a folder above it.
        if (stat.st_dev, stat.st_ino) in seen or (leave_out and here.resolve() == leave_out):
            folders.clear()
            continue
        seen.add((stat.st_dev, stat.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        prefix = "" if here == root else f"{here.relative_to(root).as_posix()}/"
        for name in files:
            suffix = f".{name.rpartition('.')[2].lower()}"
            if name.startswith("."):
                continue
            if suffix in IMAGE_SUFFIXES:
                images.append(prefix + name)
            elif suffix == ".txt":
                texts.add(prefix + name)
    stems = {name.rpartition(".")[0] for name in images}
    return sorted(images), {name for name in texts if name[: -len(".txt")] in stems}


def _by_file_name(
    table: CaptionTable, names: Sequence[str], root: Path
) -> dict[str, Sequence[str | bytes]]:
    """Captions by the folder's own names: tables may have full paths, or names without folders."""
    known = set(names)
    by_base: dict[str, str | None] = {}
    for name in names:
        base = name.rpartition("/")[2]
        by_base[base] = None if base in by_base else name
    found: dict[str, list[str | bytes]] = {}
    for written, captions in table.captions.items():
        name = written.replace("\\", "/").removeprefix("./")
        if name.startswith(f"{root.as_posix().rstrip('/')}/"):
            name = name[len(root.as_posix().rstrip("/")) + 1 :]
        if name not in known:
            name = by_base.get(name.rpartition("/")[2]) or name
        found.setdefault(name, []).extend(captions)
    return dict(found)


def _known_boxes(
    annotations: Path, region_captions: Path | None, counts: Counter[str]
) -> tuple[dict[str, FileEntry], list[str]]:
    """The images of an annotation file with their boxes, and the names of its categories."""
    data, report = read_boxes(annotations, labelled=False)
    names = {category["id"]: category.get("name", "") for category in data.get("categories", ())}
    images = {image["id"]: image for image in data["images"]}
    annotated = [a for a in data.get("annotations", ()) if not a.get("iscrowd")]
    counts["boxes marked iscrowd"] = len(data.get("annotations", ())) - len(annotated)
    captions: list[str | None] = [annotation.get("caption") for annotation in annotated]
    if region_captions is not None:
        lookup = RegionCaptions(region_captions)
        boxes = [(a, images[a["image_id"]]["file_name"]) for a in annotated]
        captions = lookup.for_boxes(boxes, f"annotations: {annotations}")
    by_image: dict[Any, list[KnownBox]] = {}
    for annotation, caption in zip(annotated, captions, strict=True):
        x, y, width, height = map(float, annotation["bbox"])
        score = annotation.get("score", 1.0)
        by_image.setdefault(annotation["image_id"], []).append(
            KnownBox(
                (x, y, width, height),
                names.get(annotation.get("category_id"), ""),
                caption if isinstance(caption, str) else None,
                float(score) if isinstance(score, int | float) else 1.0,
            )
        )
    for finding in report.findings:
        counts[countable(f"annotations: {finding.kind}: {finding.reason}")] += finding.count
    entries: dict[str, FileEntry] = {}
    for id_, image in images.items():
        if leaves_folder(image["file_name"]):
            raise ValueError(f"{annotations}: {image['file_name']!r} leads out of its folder")
        entries[image["file_name"]] = FileEntry(
            image["file_name"],
            boxes=by_image.get(id_, ()),
            image_id=id_,
            size=(int(image["width"]), int(image["height"])),
        )
    counts["images listed twice"] = len(images) - len(entries)
    return entries, list(dict.fromkeys(name for name in names.values() if name))


def _digest(entries: Sequence[FileEntry]) -> str:
    """Of everything that is known before a file is opened."""
    hash_ = hashlib.blake2b(digest_size=16)
    for entry in entries:
        row = [entry.file_name, list(entry.captions), entry.sidecar, entry.image_id]
        boxes = [[*box.bbox, box.name, box.caption, box.score] for box in entry.boxes]
        hash_.update(json.dumps([*row, boxes], default=repr).encode())
    return hash_.hexdigest()
