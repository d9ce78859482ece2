"""The end of a run: duplicates taken out, index, COCO's files, manifest."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import fineclip
from fineclip.annotation.annotate import Job
from fineclip.annotation.records import STRIDE, ImageSource
from fineclip.annotation.scan import ShardScan, duplicates_by_shard
from fineclip.annotation.work_folder import (
    COCO_FILES,
    MANIFEST,
    WorkFolder,
    checksum,
    write_record,
)
from fineclip.datasets.shard_writer import ShardFile, shard_index
from fineclip.datasets.shards import INDEX
from fineclip.files import replacing, write_atomically

FORMAT, VERSION = "fineclip-annotation", 1

_LIBRARIES = (
    *("torch", "torchvision", "pillow", "numpy", "webdataset"),
    *("transformers", "onedl-mmdetection", "ultralytics", "ray"),
)

Counts = dict[str, dict[str, int]]


def finish(
    work: WorkFolder, source: ImageSource, job: Job, scans: Sequence[ShardScan], *, coco: bool
) -> dict[str, Any]:
    """Makes of shards that went through both passes one data set.

    Args:
        work: The state; every shard is done.
        source: The images.
        job: What was done.
        scans: Of all shards.
        coco: Write :data:`COCO_FILES`, too.

    Returns:
        The manifest.
    """
    duplicates = duplicates_by_shard(scans, job.settings)
    for number in range(work.shards):
        if work.record(number) is None:
            _take_out(work, number, duplicates[number])
    tally = _Tally()
    for number, (scan, likes) in enumerate(zip(scans, duplicates, strict=True)):
        tally.add(work.record(number) or {}, scan, likes)
    categories = [{"id": place, "name": name} for place, name in enumerate(tally.categories, 1)]
    index = shard_index(tally.entries, categories, captions=job.captioned, region_captions=True)
    write_atomically(work.out / INDEX, index)
    files = [INDEX]
    for entry in tally.entries:
        files += [entry["file"], entry["records"]["file"]]
    if coco:
        write_coco(work.out, tally.entries, categories)
        files += COCO_FILES
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "versions": _versions(),
        "source": {**source.identity, "notes": source.notes},
        "proposer": sorted(tally.proposers),
        "captioner": sorted(tally.captioners),
        "settings": job.settings.plain(),
        "counts": tally.counts(),
        "files": {
            name: {"bytes": (work.out / name).stat().st_size, "sha256": checksum(work.out / name)}
            for name in files
        },
    }
    write_atomically(work.out / MANIFEST, json.dumps(manifest, indent=1) + "\n")
    work.sweep()
    return manifest


def _take_out(work: WorkFolder, number: int, duplicates: Mapping[int, str]) -> None:
    """Writes a shard that was staged without its duplicates."""
    staged = work.record(number, staged=True)
    if staged is None:
        raise ValueError(f"{work.out}: shard {number} is gone: run again")
    images = [image for image in staged["images"] if image[0] not in duplicates]
    record = {**staged, "entry": None, "images": images}
    kept = [image[0] for image in staged["images"] if image[1] is None]
    source, target = (work.target(number, staged=s) for s in (True, False))
    if staged["entry"] is not None and any(image[1] is None for image in images):
        tar, lines = target.with_suffix(".tar"), target.with_suffix(".jsonl")
        with replacing(tar) as temporary, replacing(lines) as temporary_lines:
            file = ShardFile(temporary, temporary_lines, number * STRIDE)
            samples = _samples_of(source.parent, staged["entry"])
            for position, (sample, span) in zip(kept, samples, strict=True):
                if position not in duplicates:
                    file.add(sample, _bytes_at(source.with_suffix(".tar"), span))
            record["entry"] = file.close(target.name)
    write_record(work.record_file(number, staged=False), record)
    # The record first: without it, what is left of the shard would be taken for nothing.
    work.record_file(number, staged=True).unlink()
    for end in (".tar", ".jsonl"):
        source.with_suffix(end).unlink(missing_ok=True)


def _samples_of(
    folder: Path, entry: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], Sequence[int]]]:
    """Samples of a shard, and where their images lie."""
    with (folder / entry["records"]["file"]).open("rb") as lines:
        for line, span in zip(lines, entry["images"], strict=True):
            yield json.loads(line), span


def _bytes_at(path: Path, span: Sequence[int]) -> bytes:
    with path.open("rb") as file:
        file.seek(span[0])
        return file.read(span[1])


class _Tally:
    """What became of all shards, added up one by one."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self.categories: list[str] = []
        self.proposers: set[str] = set()
        self.captioners: set[str] = set()
        self.left_out: Counter[str] = Counter()
        self._read = 0
        self._boxes: Counter[str] = Counter()
        self._captions: Counter[str] = Counter()

    def add(self, record: Mapping[str, Any], scan: ShardScan, likes: Mapping[int, str]) -> None:
        """Adds a shard: its record, what the first pass found, and its duplicates."""
        if record["entry"] is not None:
            self.entries.append(record["entry"])
        self.categories = record["categories"]
        self.proposers.add(record["proposer"])
        self.captioners.add(record["captioner"])
        self._read += int(scan.total)
        self._captions += scan.caption_reasons()
        self.left_out += scan.reasons()
        self.left_out.update(likes.values())
        for _, reason, boxes in record["images"]:
            self.left_out.update([] if reason is None else [reason])
            self._boxes.update(boxes)

    def counts(self) -> Counts:
        """All that was read, kept and left out."""
        boxes = Counter(self._boxes)
        whole = {name: boxes.pop(name, 0) for name in ("proposed", "kept")}
        return {
            "images": {"read": self._read, "kept": self._read - self.left_out.total()},
            "images left out": dict(sorted(self.left_out.items())),
            "boxes": whole,
            "boxes left out": dict(sorted(boxes.items())),
            "captions left out": dict(sorted(self._captions.items())),
        }


def _versions() -> dict[str, str]:
    found = {"fineclip": fineclip.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_coco(
    out: Path, entries: Sequence[Mapping[str, Any]], categories: Sequence[Mapping[str, Any]]
) -> None:
    """Writes a data set of shards in COCO's formats, for whatever reads those.

    Args:
        out: Folder of the shards.
        entries: Their entries of the index.
        categories: COCO's entries.
    """
    proposals, region_captions, captions = (out / name for name in COCO_FILES)

    def each(items: Callable[[dict[str, Any]], Iterable[Any]]) -> Iterator[Any]:
        for entry in entries:
            for sample, _ in _samples_of(out, entry):
                yield from items(sample)

    def boxes(sample: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for annotation in sample["annotations"]:
            _, _, width, height = annotation["bbox"]
            yield {
                **{key: value for key, value in annotation.items() if key != "caption"},
                "image_id": sample["image"]["id"],
                "area": round(width * height, 2),
                "iscrowd": 0,
            }

    def texts(sample: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for caption in sample["captions"]:
            yield {"image_id": sample["image"]["id"], "caption": caption}

    with replacing(proposals) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"images": ')
        _write_list(file, each(lambda sample: [sample["image"]]))
        file.write(',\n"annotations": ')
        _write_list(file, each(boxes))
        file.write(f',\n"categories": {json.dumps(list(categories))}}}\n')
    with replacing(captions) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"images": ')
        _write_list(file, each(lambda sample: [sample["image"]]))
        file.write(',\n"annotations": ')
        numbered = enumerate(each(texts), 1)
        _write_list(file, ({"id": number, **entry} for number, entry in numbered))
        file.write("}\n")
    with replacing(region_captions) as temporary, temporary.open("w", encoding="utf-8") as file:
        pairs = each(lambda sample: [(a["id"], a["caption"]) for a in sample["annotations"]])
        lines = (f"{json.dumps(str(id_))}: {json.dumps(caption)}" for id_, caption in pairs)
        _write_joined(file, lines, "{", "}\n")


def _write_list(file: TextIO, items: Iterable[Any]) -> None:
    _write_joined(file, map(json.dumps, items), "[", "]")


def _write_joined(file: TextIO, texts: Iterable[str], begin: str, end: str) -> None:
    """Text by text, of which there may be more than memory holds."""
    file.write(begin)
    for number, text in enumerate(texts):
        file.write(f"{',' if number else ''}\n{text}")
    file.write(end)
