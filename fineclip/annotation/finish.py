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
    records = [work.record(number) or {} for number in range(work.shards)]
    entries = [record["entry"] for record in records if record["entry"] is not None]
    if not entries:
        raise ValueError(
            f"{work.out}: no image is left, so there is nothing to train on: "
            + ", ".join(f"{n} x {why}" for why, n in _left_out(records, scans, duplicates).items())
        )
    names = records[0]["categories"]
    categories = [{"id": place, "name": name} for place, name in enumerate(names, 1)]
    index = shard_index(entries, categories, captions=job.captioned, region_captions=True)
    write_atomically(work.out / INDEX, index)
    files = [INDEX]
    for entry in entries:
        files += [entry["file"], entry["records"]["file"]]
    if coco:
        write_coco(work.out, entries, categories)
        files += COCO_FILES
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "versions": _versions(),
        "source": {**source.identity, "notes": source.notes},
        "proposer": sorted({record["proposer"] for record in records}),
        "captioner": sorted({record["captioner"] for record in records}),
        "settings": job.settings.plain(),
        "counts": _counts(records, scans, duplicates),
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


def _left_out(
    records: Sequence[Mapping[str, Any]],
    scans: Sequence[ShardScan],
    duplicates: Sequence[Mapping[int, str]],
) -> Counter[str]:
    """Images that are left out, by reason."""
    reasons: Counter[str] = Counter()
    for record, scan, likes in zip(records, scans, duplicates, strict=True):
        reasons += scan.reasons()
        reasons.update(likes.values())
        reasons.update(reason for _, reason, _ in record["images"] if reason is not None)
    return reasons


def _counts(
    records: Sequence[Mapping[str, Any]],
    scans: Sequence[ShardScan],
    duplicates: Sequence[Mapping[int, str]],
) -> Counts:
    """All that was read, kept and left out."""
    left_out = _left_out(records, scans, duplicates)
    boxes: Counter[str] = Counter()
    captions: Counter[str] = Counter()
    for record, scan in zip(records, scans, strict=True):
        captions += scan.caption_reasons()
        for _, _, counts in record["images"]:
            boxes.update(counts)
    read = sum(int(scan.total) for scan in scans)
    whole = {name: boxes.pop(name, 0) for name in ("proposed", "kept")}
    return {
        "images": {"read": read, "kept": read - left_out.total()},
        "images left out": dict(sorted(left_out.items())),
        "boxes": whole,
        "boxes left out": dict(sorted(boxes.items())),
        "captions left out": dict(sorted(captions.items())),
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
