"""What is in a data set of images, captions, boxes and region captions: one pass over it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fineclip.annotation.coverage import Coverage, words_of_text
from fineclip.annotation.tallies import Tally, TextTally
from fineclip.annotations import (
    audit_caption_list,
    audit_captions,
    audit_region_captions,
)
from fineclip.checks import integer_from
from fineclip.datasets.region_source import AnnotationFiles, ImageRecord, ReadSettings, RegionSource
from fineclip.datasets.shards import INDEX, Shards
from fineclip.files import read_json

_SMALL, _MEDIUM = 32**2, 96**2  # square pixels, COCO's
_CATEGORIES = 100  # of a report
_ASPECT = "log2 of box width over height, in tenths"


@dataclass(frozen=True)
class DataSet:
    """Something to make statistics of.

    Attributes:
        where: What messages call it.
        records: Its images; of captions alone they have neither size nor boxes.
        total: How many.
        names: Names of categories by id.
        source: Where image files are; None: nowhere.
    """

    where: str
    records: Iterator[ImageRecord]
    total: int
    names: Mapping[Any, str] = field(default_factory=dict)
    source: RegionSource | None = None
    numbers: Sequence[int] = ()


def open_data_set(
    path: str | Path,
    *,
    image_root: str | Path | None = None,
    captions: str | Path | None = None,
    region_captions: str | Path | None = None,
    images: int | None = None,
) -> DataSet:
    """Opens shards, or a JSON file of any of the kinds that training reads.

    Args:
        path: Folder of shards (or its index), COCO boxes, COCO captions, a list of images with
            captions, or region captions.
        image_root: Folder of the images of a file of boxes.
        captions: COCO captions beside a file of boxes.
        region_captions: Region captions beside it.
        images: So many of the images alone, evenly spread; None: all.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: It is none of these, or malformed.
    """
    path = Path(path)
    if path.is_dir() or path.name == INDEX:
        shards = Shards(path)
        return _of_source(shards, shards.has_captions, images)
    data = read_json(path, "data set")
    kind = _kind_of(data)
    if kind == "boxes":
        root = Path(image_root) if image_root is not None else path.parent
        source = AnnotationFiles(root, path, captions=captions, region_captions=region_captions)
        found = _of_source(source, captions is not None, images)
        return found if image_root is not None else DataSet(**{**vars(found), "source": None})
    texts: list[tuple[str, Sequence[str], Sequence[str]]]  # file, captions, those of regions
    if kind == "captions":
        listed, report = audit_captions(data, str(path), images=False)
        texts = [(str(key), found, ()) for key, found in listed.by_image.items()]
    elif kind == "caption list":
        by_file, report = audit_caption_list(data, str(path))
        texts = [(file, found, ()) for file, found in by_file.items()]
    elif kind == "region captions":
        by_region, report = audit_region_captions(data, str(path))
        texts = [("", (), list(by_region.values()))]
    else:
        raise ValueError(
            f"{path}: expected shards, COCO boxes or captions, a list of images with captions, or "
            "an object of region captions"
        )
    report.raise_if_refused()
    chosen = _spread(len(texts), images)
    records = (_texts_alone(*texts[place]) for place in chosen)
    return DataSet(str(path), records, len(chosen))


def _kind_of(data: Any) -> str | None:
    if isinstance(data, Mapping):
        annotations = data.get("annotations")
        if isinstance(annotations, list):
            first = annotations[0] if annotations else {}
            captioned = isinstance(first, Mapping) and "caption" in first and "bbox" not in first
            return "captions" if captioned else "boxes"
        return "boxes" if "images" in data else "region captions"
    return "caption list" if isinstance(data, list) else None


def _of_source(source: RegionSource, captions: bool, images: int | None) -> DataSet:
    records = source.open(ReadSettings(captions=captions))
    names = {c["id"]: str(c.get("name", c["id"])) for c in records.categories}
    numbers = _spread(len(records), images)
    return DataSet(source.where, records.records(numbers), len(numbers), names, source, numbers)


def _spread(total: int, images: int | None) -> Sequence[int]:
    if images is None or images >= total:
        return range(total)
    integer_from(1).require(images, "images")
    return [place * total // images for place in range(images)]


def _texts_alone(file: str, captions: Sequence[str], regions: Sequence[str]) -> ImageRecord:
    return ImageRecord({"file_name": file}, captions, [{}] * len(regions), regions)


class DatasetStatistics:
    """Collects what is in a data set, record by record.

    Args:
        names: Names of categories by id.
        coverages: Vocabularies whose categories captions may name.
    """

    def __init__(
        self, names: Mapping[Any, str] | None = None, coverages: Sequence[Coverage] = ()
    ) -> None:
        self._names, self.coverages = names or {}, coverages
        self.counts: Counter[str] = Counter(
            dict.fromkeys(("images", "captions", "boxes", "region captions"), 0)
        )
        self.categories: Counter[str] = Counter()
        self.captions, self.region_captions = TextTally(), TextTally()
        self.tallies = {
            name: Tally()
            for name in (
                *("image side in pixels", "captions per image", "boxes per image"),
                *(
                    "box side in pixels",
                    "box side in percent of image's",
                    _ASPECT,
                ),
            )
        }

    def add(self, record: ImageRecord) -> None:
        """Takes an image in."""
        image, annotations = record.image, record.annotations
        sized = "width" in image
        captions = record.region_captions
        if captions is None:
            captions = [None] * len(annotations)
        if image.get("file_name"):
            self.counts["images"] += 1
            self.tallies["captions per image"].add(len(record.captions))
            self.counts["images without captions"] += not record.captions
        if sized:
            self.tallies["image side in pixels"].add(math.sqrt(image["width"] * image["height"]))
            self.tallies["boxes per image"].add(len(annotations))
            self.counts["images without boxes"] += not annotations
        for text in record.captions:
            self._take_text(text, self.captions, "captions")
        for annotation, caption in zip(annotations, captions, strict=True):
            if caption is not None:
                self._take_text(caption, self.region_captions, "region captions")
            if sized:
                self._take_box(annotation, image["width"], image["height"])

    def _take_text(self, text: str, tally: TextTally, name: str) -> None:
        self.counts[name] += 1
        tally.add(text, words_of_text(text))
        for coverage in self.coverages:
            coverage.add(text)

    def _take_box(self, annotation: Mapping[str, Any], width: float, height: float) -> None:
        _, _, w, h = annotation["bbox"]
        self.counts["boxes"] += 1
        if "category_id" in annotation:
            id_ = annotation["category_id"]
            self.categories[self._names.get(id_, str(id_))] += 1
        area = w * h
        if area <= 0:
            self.counts["boxes without area"] += 1
            return
        size = "small" if area < _SMALL else "medium" if area < _MEDIUM else "large"
        self.counts[f"{size} boxes"] += 1
        side = math.sqrt(area)
        self.tallies["box side in pixels"].add(side)
        share = min(1.0, side / math.sqrt(width * height))
        self.tallies["box side in percent of image's"].add(100 * share)
        self.tallies[_ASPECT].add(10 * math.log2(w / h))

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        common = sorted(self.categories.items(), key=lambda item: (-item[1], item[0]))
        return {
            "counts": dict(self.counts),
            "tallies": {name: tally.as_json() for name, tally in self.tallies.items()},
            "captions": self.captions.as_json(),
            "region captions": self.region_captions.as_json(),
            "categories": {"distinct": len(common), "common": common[:_CATEGORIES]},
            "coverage": {one.vocabulary.name: one.as_json() for one in self.coverages},
        }


def collect(
    data: DataSet,
    coverages: Sequence[Coverage] = (),
    *,
    also: Callable[[int, ImageRecord], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetStatistics:
    """Takes in all of a data set.

    Args:
        data: The data set.
        coverages: See :class:`DatasetStatistics`.
        also: Called with the number and record of each image as well, to look at it in the same
            pass.
        progress: Called with (images done, in all).
    """
    statistics = DatasetStatistics(data.names, coverages)
    numbers = data.numbers or range(data.total)
    for done, (number, record) in enumerate(zip(numbers, data.records, strict=True), 1):
        statistics.add(record)
        if also is not None:
            also(number, record)
        if progress is not None:
            progress(done, data.total)
    return statistics
