"""What is read of a data set that another program has written, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fineclip.annotations import FileReport


@dataclass(frozen=True)
class ImportOptions:
    """What a user says of a source beside its folder; each reader takes what concerns it.

    Args:
        classes: Names of the classes in label order, or one file that holds them; none: the
            source's own.
        images: Folder of the images; None: in the source.
        labels: Folder or file of labels, annotations, masks or captions; None: in the source.
        class_map: File with the name of each class folder.
        reduce_zero: Value 0 of masks is no class, and 1 the first one.
        image_column: Column of a table of captions that names the image; None: guessed.
        caption_column: Column that holds the caption; None: guessed.
    """

    classes: Sequence[str] = ()
    images: Path | None = None
    labels: Path | None = None
    class_map: Path | None = None
    reduce_zero: bool = False
    image_column: str | None = None
    caption_column: str | None = None


@dataclass
class SourceBox:
    """One box.

    Attributes:
        label: Class index.
        box: x, y, width, height in pixels; parts of the image where the source is ``relative``.
        place: Where it stands, for messages ("labels/a.txt:3").
        mask: Polygons in the same unit as the box, or a run-length code; None: none.
        ignored: Neither trained on nor counted (COCO's iscrowd, VOC's difficult).
        area: Of the object in square pixels, if the source says it; None: of the polygons, or of
            the box.
    """

    label: int
    box: tuple[float, float, float, float]
    place: str
    mask: Any = None
    ignored: bool = False
    area: float | None = None


@dataclass
class SourceImage:
    """One image, and all that the source says of it.

    Attributes:
        path: The file.
        split: ``train``, ``val`` or ``test``; None where the source does not say.
        boxes: Its boxes.
        captions: Its captions.
        mask: File of its mask.
        label: Class of the whole image.
        stated: Width and height in pixels that the source states.
    """

    path: Path
    split: str | None = None
    boxes: list[SourceBox] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    mask: Path | None = None
    label: int | None = None
    stated: tuple[int, int] | None = None


@dataclass
class SourceData:
    """A data set as another program has written it.

    Attributes:
        images: The images, in the order of the source.
        classes: Names of the classes in label order.
        report: What was mended, left out or noted while it was read.
        synonyms: Further names of a class by its name.
        relative: Boxes and polygons are parts of their image, from 0 to 1.
        read_mask: Reads a mask file as (H, W) class indices or ``ignore_label``; None: there are
            no masks.
        ignore_label: Value that is no class, in what ``read_mask`` gives.
    """

    images: list[SourceImage]
    classes: list[str]
    report: FileReport
    synonyms: dict[str, list[str]] = field(default_factory=dict)
    relative: bool = False
    read_mask: Callable[[Path], np.ndarray] | None = None
    ignore_label: int = 255
