"""The second pass over a shard: boxes, their captions, and the shard that training reads."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fineclip.annotation.box_cleaning import clean_boxes
from fineclip.annotation.caption_cleaning import clean_caption, clean_captions
from fineclip.annotation.image_filter import filtered_image
from fineclip.annotation.interfaces import (
    Captioner,
    CaptionFailure,
    Proposals,
    Proposer,
    RegionInfo,
    create_captioner,
    create_proposer,
)
from fineclip.annotation.records import STRIDE, InputImage, InputShard, LeftOut, as_proposals
from fineclip.annotation.scan import ShardScan, Tell, say_nothing
from fineclip.annotation.settings import AnnotationSettings
from fineclip.datasets.shard_writer import ShardFile
from fineclip.datasets.transforms import enlarge_boxes
from fineclip.files import replacing

CHUNK_IMAGES, CHUNK_PIXELS = 64, 64_000_000
"""Images that are held in memory at once, whose crops make batches of similar sizes."""

Corners = tuple[int, int, int, int]

MOST_BOXES = 1000
"""Of an image: the id of a box is the number of its image times this, and its place."""


@dataclass
class StageTimes:
    """Seconds of the stages, and what went through them.

    Attributes:
        seconds: By stage.
        counts: Images (of captions: regions) by stage.
    """

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def of(self, stage: str, count: int) -> Iterator[None]:
        """Times a block."""
        begin = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - begin
        self.counts[stage] += count

    def add(self, other: StageTimes) -> None:
        """Adds what another process took."""
        for stage, seconds in other.seconds.items():
            self.seconds[stage] += seconds
        self.counts.update(other.counts)


@dataclass(frozen=True)
class Models:
    """What finds boxes, and what describes them.

    Attributes:
        proposer: See :mod:`fineclip.annotation.interfaces`.
        captioner: Likewise.
    """

    proposer: Proposer
    captioner: Captioner

    @classmethod
    def of(cls, settings: AnnotationSettings) -> Models:
        """Makes them, which may take minutes.

        Raises:
            ValueError: A name or an option is wrong.
            ImportError: A library is missing.
        """
        return cls(
            create_proposer(settings.proposer, **settings.proposer_options),
            create_captioner(settings.captioner, **settings.captioner_options),
        )

    def categories(self, of_source: Sequence[str]) -> list[str]:
        """Names of the categories, whose places from 1 on are the ids."""
        own = self.proposer.categories
        return list(dict.fromkeys(name for name in (of_source if own is None else own) if name))


@dataclass(frozen=True)
class Job:
    """What the second pass needs beside the shard: plain values, that can be pickled.

    Attributes:
        settings: What is done.
        categories: Names of the source's categories.
        captioned: Whether the source has captions.
    """

    settings: AnnotationSettings
    categories: Sequence[str]
    captioned: bool


@dataclass
class _Described:
    """An image on its way through the stages."""

    source: InputImage
    size: tuple[int, int]
    pixels: Image.Image | None
    boxes: Proposals
    counts: Counter[str] = field(default_factory=Counter)
    captions: dict[int, str] = field(default_factory=dict)  # of boxes, by place


def annotate_shard(
    number: int,
    shard: InputShard,
    scan: ShardScan,
    duplicates: Mapping[int, str],
    job: Job,
    models: Models,
    target: Path,
    *,
    tell: Tell = say_nothing,
    times: StageTimes | None = None,
) -> dict[str, Any]:
    """Finds boxes in the images of a shard, describes them, and writes the shard.

    Args:
        number: Of the shard.
        shard: The images.
        scan: Of the same shard.
        duplicates: Images that are left out, by position; the reasons are counted elsewhere.
        job: What is done.
        models: By what.
        target: Path of the shard to write, without suffix.
        tell: Told of images.
        times: Receives the seconds of each stage.

    Returns:
        What became of it: the ``entry`` of the index (None without a sample), and of each image
            its position, why it was left out (or None), and counts of its boxes.
    """
    times = times or StageTimes()
    names = models.categories(job.categories)
    ids = {name: place for place, name in enumerate(names, 1)}
    positions = scan.positions.tolist()
    sizes = dict(zip(positions, map(tuple, scan.sizes.tolist()), strict=True))
    wanted = sizes.keys() - duplicates.keys()
    images: list[list[Any]] = []
    tar, records = target.with_suffix(".tar"), target.with_suffix(".jsonl")
    with replacing(tar) as temporary, replacing(records) as temporary_records:
        file = ShardFile(temporary, temporary_records, number * STRIDE)
        for chunk in _chunks(shard, wanted, sizes, job.settings, models, images, times):
            _propose(chunk, models.proposer, job.settings, times)
            _describe(chunk, models.captioner, job.settings, times)
            with times.of("write", len(chunk)):
                for image in chunk:
                    sample, reason = _as_sample(number, image, ids, job)
                    if sample is not None:
                        file.add(sample, image.source.content or b"")
                    images.append([image.source.position, reason, dict(image.counts)])
            tell(len(chunk), 0)
        entry = file.close(target.name)
    if not len(file):
        tar.unlink()
        records.unlink()
    return {
        "entry": entry if len(file) else None,
        "images": sorted(images, key=lambda image: image[0]),
        "categories": names,
        "proposer": models.proposer.identity,
        "captioner": models.captioner.identity,
    }


def _chunks(
    shard: InputShard,
    wanted: set[int],
    sizes: Mapping[int, tuple[int, int]],
    settings: AnnotationSettings,
    models: Models,
    left_out: list[list[Any]],
    times: StageTimes,
) -> Iterator[list[_Described]]:
    """Some images at a time, decoded if a model looks at them."""
    look = models.proposer.needs_images or models.captioner.needs_crops
    chunk: list[_Described] = []
    source = shard.images(wanted)
    while True:
        with times.of("read", 0):
            image = next(source, None)
            if image is None:
                break
            try:
                pixels = filtered_image(image, settings) if look else None
            except LeftOut as out:  # it has changed since the first pass
                left_out.append([image.position, out.reason, {}])
                continue
        times.counts["read"] += 1
        size = sizes[image.position]
        chunk.append(_Described(image, size, pixels, as_proposals(image.boxes)))
        held = sum(i.size[0] * i.size[1] for i in chunk) if look else 0
        if len(chunk) == CHUNK_IMAGES or held > CHUNK_PIXELS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _propose(
    chunk: list[_Described], proposer: Proposer, settings: AnnotationSettings, times: StageTimes
) -> None:
    for start in range(0, len(chunk), settings.proposer_batch):
        batch = chunk[start : start + settings.proposer_batch]
        with times.of("boxes", len(batch)):
            found = proposer.propose(
                [image.pixels for image in batch],
                [image.source.file_name for image in batch],
                [image.boxes for image in batch],
            )
        for image, proposals in zip(batch, found, strict=True):
            image.counts["proposed"] = len(proposals.boxes)
            image.boxes, dropped = clean_boxes(proposals, *image.size, settings)
            image.counts.update(dropped)


def _describe(
    chunk: list[_Described], captioner: Captioner, settings: AnnotationSettings, times: StageTimes
) -> None:
    """Captions of all boxes, in batches of crops of about the same size."""
    places = [(image, box) for image in chunk for box in range(len(image.boxes.boxes))]
    if captioner.needs_crops:
        corners = {id(image): _crop_boxes(image, settings) for image in chunk}
        places.sort(key=lambda place: _area(corners[id(place[0])][place[1]]))
    for start in range(0, len(places), settings.captioner_batch):
        batch = places[start : start + settings.captioner_batch]
        with times.of("captions", len(batch)):
            crops: list[Image.Image | None] = [None] * len(batch)
            if captioner.needs_crops:
                crops = [
                    None if image.pixels is None else image.pixels.crop(corners[id(image)][box])
                    for image, box in batch
                ]
            texts = captioner.caption(crops, [_region(image, box) for image, box in batch])
        for (image, box), text in zip(batch, texts, strict=True):
            if isinstance(text, CaptionFailure):
                image.counts[f"no caption: {text.reason}"] += 1
                continue
            try:
                image.captions[box] = clean_caption(text, settings)
            except LeftOut as out:
                image.counts[out.reason] += 1


def _crop_boxes(image: _Described, settings: AnnotationSettings) -> list[Corners]:
    """Corners of the crops in whole pixels, at least one wide and high."""
    boxes = torch.from_numpy(image.boxes.boxes).reshape(-1, 4)
    enlarged = enlarge_boxes(boxes, settings.crop_scale, *image.size)
    low = enlarged[:, :2].floor()
    high = torch.maximum(enlarged[:, 2:].ceil(), low + 1)
    return [
        (int(x0), int(y0), int(x1), int(y1))
        for x0, y0, x1, y1 in torch.cat([low, high], dim=1).tolist()
    ]


def _area(box: Corners) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _region(image: _Described, box: int) -> RegionInfo:
    proposals = image.boxes
    x0, y0, x1, y1 = proposals.boxes[box].tolist()
    return RegionInfo(
        image.source.file_name,
        (x0, y0, x1, y1),
        proposals.names[box],
        proposals.captions[box],
        float(proposals.scores[box]),
    )


def _as_sample(
    shard: int, image: _Described, ids: Mapping[str, int], job: Job
) -> tuple[dict[str, Any] | None, str | None]:
    """The sample of an image, or why it is left out."""
    source = image.source
    if not len(image.boxes.boxes):
        return None, "no box" if not image.counts["proposed"] else "no box is left"
    if not image.captions:
        return None, "no box has a caption"
    number = shard * STRIDE + source.position
    annotations = []
    for place, (box, caption) in enumerate(sorted(image.captions.items()), 1):
        x0, y0, x1, y1 = (round(value, 2) for value in image.boxes.boxes[box].tolist())
        annotation: dict[str, Any] = {
            "id": number * MOST_BOXES + place,
            "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
        }
        if (category := ids.get(image.boxes.names[box])) is not None:
            annotation["category_id"] = category
        annotation |= {"score": round(float(image.boxes.scores[box]), 4), "caption": caption}
        annotations.append(annotation)
    image.counts["kept"] = len(annotations)
    width, height = image.size
    captions, _ = clean_captions(list(source.captions), job.settings)
    return {
        "image": {
            "id": number if source.image_id is None else source.image_id,
            "file_name": source.file_name,
            "width": width,
            "height": height,
        },
        "captions": captions,
        "annotations": annotations,
    }, None
