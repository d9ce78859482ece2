"""Turning region-text data into WebDataset shards with an index."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import webdataset

from fineclip.checks import integer_from
from fineclip.datasets.region_source import AnnotationFiles, ImageRecord, ReadSettings
from fineclip.datasets.shards import FORMAT, INDEX, VERSION, sample_key
from fineclip.files import replacing_folder
from fineclip.images import IMAGE_SUFFIXES, UnusableImageError

_ANNOTATION_KEYS = ("id", "bbox", "category_id", "iscrowd", "score")


def make_shards(
    out: str | Path,
    *,
    image_root: str | Path,
    annotations: str | Path,
    captions: str | Path | None = None,
    region_captions: str | Path | None = None,
    samples_per_shard: int = 5000,
    skip_missing: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Writes all images of an annotation file, in its order, with what is known about them.

    Image files are copied byte by byte, and nothing is filtered: what a data set leaves out is
    decided when it reads the shards. Segmentations are not copied. The folder appears as a whole
    or not at all.

    Args:
        out: Folder to write.
        image_root: Folder of the images.
        annotations: COCO instances or proposals JSON.
        captions: COCO captions JSON; without it the shards have none.
        region_captions: JSON of :class:`fineclip.datasets.region_captions.RegionCaptions`.
        samples_per_shard: Images in a shard; at 150 KB each, 5000 make 750 MB.
        skip_missing: Leave out images whose file is missing, in place of stopping. Draws then
            differ from those of the files, since images are counted differently.
        overwrite: Replace ``out`` if it holds shards.
        progress: Called with the number of images done and in all.

    Returns:
        Counts: ``images``, ``shards``, ``bytes`` and ``missing``.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        FileExistsError: ``out`` exists.
        ValueError: A file has not the format it should, or there is no image.
    """
    out = Path(out)
    integer_from(1).require(samples_per_shard, "samples_per_shard")
    _check_target(out, overwrite)
    source = AnnotationFiles(
        image_root, annotations, captions=captions, region_captions=region_captions
    )
    data = source.open(ReadSettings(captions=captions is not None))
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(out) as folder:
        done, shards = 0, _ShardWriter(folder, samples_per_shard)
        for number, record in enumerate(data.records(range(len(data)))):
            try:
                content = source.read(number)
            except UnusableImageError as error:
                if not skip_missing:
                    raise FileNotFoundError(
                        f"{error}; to leave such images out, ask for it (--skip-missing)"
                    ) from None
            else:
                shards.add(done, record, content)
                done += 1
            if progress is not None:
                progress(number + 1, len(data))
        if not done:
            raise ValueError(f"{annotations}: there is no image to put into shards")
        entries = shards.finish()
        index = shard_index(
            entries,
            data.categories,
            captions=captions is not None,
            region_captions=region_captions is not None,
        )
        (folder / INDEX).write_text(index, encoding="utf-8")
    return {
        "images": done,
        "shards": len(entries),
        "bytes": sum(shard["bytes"] for shard in entries),
        "missing": len(data) - done,
    }


class _ShardWriter:
    """Writes one shard after the other."""

    def __init__(self, folder: Path, samples_per_shard: int) -> None:
        self._folder, self._limit = folder, samples_per_shard
        self._shards: list[dict[str, Any]] = []
        self._file: ShardFile | None = None

    def add(self, number: int, record: ImageRecord, content: bytes) -> None:
        if self._file is None:
            self._stem = f"{len(self._shards):06d}"
            self._file = ShardFile(
                self._folder / f"{self._stem}.tar", self._folder / f"{self._stem}.jsonl", number
            )
        self._file.add(as_sample(record), content)
        if len(self._file) == self._limit:
            self._close()

    def finish(self) -> list[dict[str, Any]]:
        """The index's entries of all shards."""
        self._close()
        return self._shards

    def _close(self) -> None:
        if self._file is not None:
            self._shards.append(self._file.close(self._stem))
            self._file = None


class ShardFile:
    """One shard in writing: a tar file, and a file of its records, a line each.

    The same samples give the same bytes.

    Args:
        tar: Path of the tar file.
        records: Path of the records.
        first: Number of the first sample; the others count on.
    """

    def __init__(self, tar: Path, records: Path, first: int) -> None:
        self._paths, self._first, self._count = (tar, records), first, 0
        self._tar, self._records = tar.open("wb"), records.open("wb")
        # Without dates, the same data give the same bytes.
        self._writer = webdataset.TarWriter(self._tar, encoder=False, mtime=0)

    def __len__(self) -> int:
        return self._count

    def add(self, sample: dict[str, Any], content: bytes) -> None:
        """Writes a sample.

        Args:
            sample: From :func:`as_sample`.
            content: The image file.
        """
        suffix = Path(sample["image"]["file_name"]).suffix.lower()
        suffix = suffix[1:] if suffix in IMAGE_SUFFIXES else "jpg"
        record = json.dumps(sample).encode()
        key = sample_key(self._first + self._count)
        self._writer.write({"__key__": key, suffix: content, "json": record})
        self._records.write(record + b"\n")
        self._count += 1

    def close(self, stem: str) -> dict[str, Any]:
        """Ends the files.

        Args:
            stem: The name that they will have, without suffix.

        Returns:
            The index's entry.
        """
        self._writer.close()
        self._tar.close()
        self._records.close()
        tar, records = self._paths
        entry: dict[str, Any] = {
            "file": f"{stem}.tar",
            "bytes": tar.stat().st_size,
            "records": {"file": f"{stem}.jsonl", "bytes": records.stat().st_size},
            "first": self._first,
            "extensions": [],
            "images": [],
            "annotations": [],
        }
        with tarfile.open(tar) as members:
            for member in members:
                extension = member.name.partition(".")[2]
                span = [member.offset_data, member.size]
                if extension == "json":
                    entry["annotations"].append(span)
                else:
                    entry["extensions"].append(extension)
                    entry["images"].append(span)
        return entry


def as_sample(record: ImageRecord) -> dict[str, Any]:
    """What a shard keeps of a record."""
    annotations = []
    for place, annotation in enumerate(record.annotations):
        kept = {key: annotation[key] for key in _ANNOTATION_KEYS if key in annotation}
        if record.region_captions and record.region_captions[place] is not None:
            kept["caption"] = record.region_captions[place]
        annotations.append(kept)
    return {
        "image": dict(record.image),
        "captions": list(record.captions),
        "annotations": annotations,
    }


def shard_index(
    shards: list[dict[str, Any]],
    categories: Sequence[Mapping[str, Any]],
    *,
    captions: bool,
    region_captions: bool,
) -> str:
    """The text of ``index.json``.

    Args:
        shards: The entries of the shards.
        categories: COCO's entries.
        captions: Whether images have captions.
        region_captions: Whether boxes have captions.
    """
    index = {
        "format": FORMAT,
        "version": VERSION,
        "categories": list(categories),
        "captions": captions,
        "region_captions": region_captions,
        "shards": shards,
    }
    return json.dumps(index)


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not (out / INDEX).is_file():
        raise FileExistsError(f"{out} exists and holds no shards; name a new folder")
    if not overwrite:
        raise FileExistsError(f"{out} holds shards already; to replace them, use --overwrite")
