"""Where region-text data come from: image files with annotation files, or shards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fineclip.annotations import FileReport, announce, file_name_of, read_boxes, read_captions
from fineclip.datasets.packed_strings import PackedStrings
from fineclip.datasets.region_captions import RegionCaptions
from fineclip.files import require_keys
from fineclip.images import read_bytes
from fineclip.paths import inside
from fineclip.registry import DATA_PARTS


@dataclass(frozen=True)
class ImageRecord:
    """All that is known about one image.

    Attributes:
        image: COCO's entry: ``id``, ``file_name``, ``width`` and ``height`` in pixels.
        captions: Its captions, none of them empty.
        annotations: COCO's entries: ``bbox`` xywh in pixels, possibly ``id``, ``category_id``,
            ``iscrowd``.
        region_captions: One per annotation, None where there is none; None if the source has no
            captions of regions, or they were not asked for.
    """

    image: Mapping[str, Any]
    captions: Sequence[str]
    annotations: Sequence[Mapping[str, Any]]
    region_captions: Sequence[str | None] | None


@dataclass(frozen=True)
class ReadSettings:
    """Which parts of the records are to be read; the others stay empty and are not required.

    Attributes:
        captions: Captions of the images.
        annotations: Boxes.
        region_captions: Captions of the boxes, if the source has them.
        categories: The list of categories.
    """

    captions: bool = True
    annotations: bool = True
    region_captions: bool = True
    categories: bool = False


class RegionSource(Protocol):
    """Images by number, and what is known about them."""

    where: str
    """What messages call the source."""

    def open(self, wanted: ReadSettings) -> RegionRecords:
        """Reads what is known about the images."""

    def file(self, number: int) -> str:
        """What messages call an image."""

    def read(self, number: int) -> bytes:
        """The file of an image, undecoded.

        Raises:
            UnusableImageError: There is no such file.
        """


class RegionRecords(Protocol):
    """What a source knows about its images, held only while it is indexed."""

    categories: Sequence[Mapping[str, Any]]

    def __len__(self) -> int: ...

    def records(self, numbers: Sequence[int]) -> Iterator[ImageRecord]:
        """The records of these images."""


@DATA_PARTS.register_module()
class AnnotationFiles:
    """A folder of images and files in COCO's formats.

    Args:
        image_root: Folder of the images.
        annotations: COCO instances or proposals JSON (images, annotations with bbox xywh pixels).
        captions: COCO captions JSON; needed for the field "texts".
        region_captions: JSON of :class:`RegionCaptions`. Without it, boxes are captioned with the
            names of their categories.
        left_out: Names of categories whose boxes do not exist for training.

    Raises:
        FileNotFoundError: The folder does not exist.
    """

    def __init__(
        self,
        image_root: str | Path,
        annotations: str | Path,
        *,
        captions: str | Path | None = None,
        region_captions: str | Path | None = None,
        left_out: Sequence[str] = (),
    ) -> None:
        self.image_root = Path(image_root)
        if not self.image_root.is_dir():
            raise FileNotFoundError(f"image folder {self.image_root} does not exist")
        self.annotations, self.captions = annotations, captions
        self.region_captions = region_captions
        self.left_out = frozenset(left_out)
        self.where = str(annotations)
        self._files = PackedStrings(())  # until it is opened

    def open(self, wanted: ReadSettings) -> _AnnotationRecords:
        """Reads the files.

        Raises:
            FileNotFoundError: A file does not exist.
            ValueError: A file has not the format it should, or is wanted and was not given, or
            has nothing to say about these images.
        """
        data = _AnnotationRecords(self, wanted)
        self._files = PackedStrings(image["file_name"] for image in data.images)
        return data

    def file(self, number: int) -> str:
        """Path of an image."""
        return str(inside(self.image_root, self._files[number]))

    def read(self, number: int) -> bytes:
        """The file of an image, undecoded.

        Raises:
            UnusableImageError: There is no such file.
        """
        return read_bytes(inside(self.image_root, self._files[number]))


class _AnnotationRecords:
    def __init__(self, source: AnnotationFiles, wanted: ReadSettings) -> None:
        where = f"annotations: {source.annotations}"
        data, report = read_boxes(source.annotations, labelled=False, boxes=wanted.annotations)
        if wanted.categories:
            require_keys(data, ["categories"], f"{where}: labels")
        if wanted.annotations:
            require_keys(data, ["annotations"], where)
        self.images = [_with_file_name(image) for image in data["images"]]
        self.categories = data.get("categories", ())
        reports = [report]
        self._captions: dict[Any, list[str]] = {}
        if wanted.captions:
            if source.captions is None:
                raise ValueError('the field "texts" needs a captions file: set captions=...')
            self._captions, report = _captions_of(self.images, source.captions, where)
            reports.append(report)
        self._annotations: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        self._region_captions: dict[Any, list[str | None]] | None = None
        annotations = data["annotations"] if wanted.annotations else ()
        if source.left_out:
            ids = {c["id"] for c in self.categories if c["name"] in source.left_out}
            annotations = [a for a in annotations if a.get("category_id") not in ids]
        for annotation in annotations:
            self._annotations[annotation["image_id"]].append(annotation)
        if wanted.region_captions and source.region_captions is not None:
            lookup = RegionCaptions(source.region_captions)
            files = {image["id"]: image["file_name"] for image in self.images}
            boxes = [(annotation, files[annotation["image_id"]]) for annotation in annotations]
            self._region_captions = defaultdict(list)
            for (annotation, _), caption in zip(boxes, lookup.for_boxes(boxes, where), strict=True):
                self._region_captions[annotation["image_id"]].append(caption)
            reports.append(lookup.report)
        for report in reports:
            announce(report)

    def __len__(self) -> int:
        return len(self.images)

    def records(self, numbers: Sequence[int]) -> Iterator[ImageRecord]:
        for number in numbers:
            image = self.images[number]
            annotations = self._annotations.get(image["id"], ())
            captions = None
            if self._region_captions is not None:
                captions = self._region_captions.get(image["id"], ())
            yield ImageRecord(image, self._captions.get(image["id"], ()), annotations, captions)


def _with_file_name(image: Mapping[str, Any]) -> Mapping[str, Any]:
    return image if "file_name" in image else {**image, "file_name": file_name_of(image)}


def _captions_of(
    images: Sequence[Mapping[str, Any]], path: str | Path, where: str
) -> tuple[dict[Any, list[str]], FileReport]:
    """Captions of the images by their ids, stripped.

    Raises:
        ValueError: There are captions, but of no image.
    """
    captions, report = read_captions(path, images=False)
    known = {image["id"] for image in images}
    unknown = {id_: texts for id_, texts in captions.by_image.items() if id_ not in known}
    if captions.by_image and images and len(unknown) == len(captions.by_image):
        raise ValueError(
            f"captions: {path}: none is of an image in {where}: the first image_id is "
            f"{next(iter(unknown))!r} here, {images[0]['id']!r} there"
        )
    if unknown:
        count, first = sum(map(len, unknown.values())), f"image_id {next(iter(unknown))!r}"
        report.add("noted", "captions of images that are not listed", first, count=count)
    return {
        id_: [caption.strip() for caption in texts]
        for id_, texts in captions.by_image.items()
        if id_ in known
    }, report
