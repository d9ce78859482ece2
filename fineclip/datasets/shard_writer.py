"""Turning region-text data into WebDataset shards with an index."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import webdataset

from fineclip.checks import integer_from
from fineclip.datasets.region_source import AnnotationFiles, ImageRecord, ReadSettings
from fineclip.datasets.shards import FORMAT, INDEX, VERSION, sample_key
from fineclip.files import replacing_folder
from fineclip.images import UnusableImageError

_ANNOTATION_KEYS = ("id", "bbox", "category_id", "iscrowd")


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
        index: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "categories": list(data.categories),
            "captions": captions is not None,
            "region_captions": region_captions is not None,
            "shards": shards.finish(),
        }
        (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    return {
        "images": done,
        "shards": len(index["shards"]),
        "bytes": sum(shard["bytes"] for shard in index["shards"]),
        "missing": len(data) - done,
    }


class _ShardWriter:
    """Writes one shard after the other and looks up where its members came to lie."""

    def __init__(self, folder: Path, samples_per_shard: int) -> None:
        self._folder, self._limit = folder, samples_per_shard
        self._shards: list[dict[str, Any]] = []
        self._writer: webdataset.TarWriter | None = None
        self._in_shard = 0

    def add(self, number: int, record: ImageRecord, content: bytes) -> None:
        if self._writer is None:
            self._path = self._folder / f"{len(self._shards):06d}.tar"
            # Without dates, the same data give the same bytes.
            self._writer = webdataset.TarWriter(str(self._path), encoder=False, mtime=0)
        extension = Path(record.image["file_name"]).suffix.lower().lstrip(".") or "jpg"
        self._writer.write(
            {
                "__key__": sample_key(number),
                extension: content,
                "json": json.dumps(_sample(record)).encode(),
            }
        )
        self._in_shard += 1
        if self._in_shard == self._limit:
            self._close()

    def finish(self) -> list[dict[str, Any]]:
        """The index's entries of all shards."""
        self._close()
        return self._shards

    def _close(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._writer, self._in_shard = None, 0
        entry: dict[str, Any] = {
            "file": self._path.name,
            "bytes": self._path.stat().st_size,
            "extensions": [],
            "images": [],
            "annotations": [],
        }
        with tarfile.open(self._path) as tar:
            for member in tar:
                extension = member.name.partition(".")[2]
                span = [member.offset_data, member.size]
                if extension == "json":
                    entry["annotations"].append(span)
                else:
                    entry["extensions"].append(extension)
                    entry["images"].append(span)
        self._shards.append(entry)


def _sample(record: ImageRecord) -> dict[str, Any]:
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


def _check_target(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not (out / INDEX).is_file():
        raise FileExistsError(f"{out} exists and holds no shards; name a new folder")
    if not overwrite:
        raise FileExistsError(f"{out} holds shards already; to replace them, use --overwrite")
