"""Pascal VOC: an XML file per image.

The devkit's folders with its lists (``ImageSets/Main``), CVAT's and Roboflow's exports, and flat
folders as LabelImg leaves them. What ``<path>`` and ``<folder>`` say is of another machine: images
are found by the name of the XML file, or by ``<filename>``, among those of the source.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from fineclip.annotations import FileReport
from fineclip.datasets.description import SPLITS
from fineclip.importing.classes import given_classes
from fineclip.importing.finding import SourceFiles, read_lines
from fineclip.importing.source import ImportOptions, SourceBox, SourceData, SourceImage
from fineclip.paths import require_regular

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(files: SourceFiles, options: ImportOptions) -> SourceData:
    """Reads a data set in Pascal VOC's format.

    Corners are pixels counted from 1, the last one included, as the devkit has them; in a data set
    where one is 0, they count from 0. Objects that are "difficult" are ignored regions.

    Args:
        files: The source.
        options: ``classes``, ``images`` and ``labels`` are read.

    Returns:
        Its images with their boxes; classes are in alphabetical order unless they are given.

    Raises:
        FileNotFoundError: There are no images or annotations.
        ValueError: Another format, or something that would make labels wrong; the message names
            the file and the option that helps.
    """
    report = FileReport(str(files.given))
    splits = listed_splits(files)
    reader = _Annotations(files, report, splits)
    paths = files.labels(".xml")
    if not paths:
        raise FileNotFoundError(
            f"{files.label_root} holds no annotations (*.xml); --labels DIR names their folder"
        )
    for path in paths:
        reader.read(path)
    stems = {path.stem for path in paths}
    if missing := [stem for stem in splits if stem not in stems]:
        reason = "listed images without an annotation file"
        report.add("dropped", reason, missing[0], count=len(missing))
    if not reader.images:
        raise FileNotFoundError(
            f"{files.label_root}: none of the images of {len(paths)} annotations, such as "
            f"{paths[0].name}, is in {files.image_root}; --images DIR names their folder"
        )
    used = {image.path for image in reader.images}
    if not splits and (left := [image for image in files.images if image not in used]):
        reason = "images without an annotation file, left out (one without objects says 'none')"
        report.add("dropped", reason, files.short(left[0]), count=len(left))
    classes = given_classes(options.classes) or sorted(reader.names)
    if not classes:
        raise ValueError(
            f"{files.label_root}: none of the {len(paths)} annotations has an object, so there "
            "are no classes; --labels DIR names the folder of others"
        )
    return reader.finish(classes)


def listed_splits(files: SourceFiles) -> dict[str, str]:
    """Split by the name of an image, without suffix, of the devkit's lists."""
    folders = [path.parent for path in files.files if path.parent.parts[-2:-1] == ("ImageSets",)]
    main = next((folder for folder in folders if folder.name in ("Main", "Segmentation")), None)
    if main is None:
        return {}
    lists = {name: main / f"{name}.txt" for name in SPLITS}
    if not lists["train"].is_file() and not lists["val"].is_file():
        lists["train"] = main / "trainval.txt"
    found: dict[str, str] = {}
    for split, path in lists.items():
        for line in read_lines(path) if path.is_file() else ():
            if not line.strip():
                continue
            stem = line.split()[0] if line.split()[-1] in ("-1", "0", "1") else line.strip()
            stem = stem.replace("\\", "/").rsplit("/", 1)[-1]
            if found.setdefault(stem, split) != split:
                raise ValueError(
                    f"{path}: {stem} is in {found[stem]}.txt, too; have the images divided anew by "
                    "--split 0.8 0.1 0.1 after taking it out of one"
                )
    return found


class _Annotations:
    """Reads annotation files one after the other."""

    def __init__(self, files: SourceFiles, report: FileReport, splits: Mapping[str, str]) -> None:
        self.files, self.report, self.splits = files, report, splits
        self.images: list[SourceImage] = []
        self.names: dict[str, str] = {}  # with the first place of each
        self._boxes: list[list[tuple[str, SourceBox]]] = []
        self._taken: dict[Path, str] = {}
        self._from_zero = ""

    def read(self, path: Path) -> None:
        """Takes in one file."""
        short = self.files.short(path)
        if self.splits and path.stem not in self.splits:
            self.report.add("noted", "annotations of images in none of the lists, left out", short)
            return
        root = _parse(path, self.files)
        image = self._image(path, root, short)
        if image is None:
            self.report.add("dropped", "annotations whose image is not there", short)
            return
        if image in self._taken:
            raise ValueError(
                f"{path}: its image {self.files.short(image)} is that of {self._taken[image]}, "
                "too; --labels DIR names the folder of the annotations that count"
            )
        self._taken[image] = short
        split = self.splits.get(path.stem) or self.files.split_of_folder(image)
        self.images.append(SourceImage(image, split, stated=_stated_size(root)))
        boxes = []
        for number, item in enumerate(root.findall("object"), 1):
            if (box := self._box(item, f"{short}: object {number}")) is not None:
                boxes.append(box)
        self._boxes.append(boxes)

    def _image(self, path: Path, root: Element, short: str) -> Path | None:
        near = self.files.image_root if self.files.image_root != self.files.root else path.parent
        found = self.files.find_image(path.stem, short, near)
        if found is None and (name := (root.findtext("filename") or "").strip()):
            found = self.files.find_image(name, short, near)
        return found

    def _box(self, item: Element, place: str) -> tuple[str, SourceBox] | None:
        name = (item.findtext("name") or "").strip()
        if not name:
            raise ValueError(
                f"{self.files.given}: {place} has no <name>; is it another format (--from)?"
            )
        self.names.setdefault(name, place)
        bounds = item.find("bndbox")
        if bounds is None:
            self.report.add("dropped", "objects without <bndbox>", place)
            return None
        corners = [_number(bounds.findtext(key)) for key in _CORNERS]
        if not all(map(math.isfinite, corners)):
            texts = [bounds.findtext(key) for key in _CORNERS]
            self.report.add("dropped", "objects whose corners are no numbers", f"{place} {texts}")
            return None
        x0, y0, x1, y1 = corners
        if x0 > x1 or y0 > y1:
            self.report.add("mended", "corners in the wrong order, exchanged", place)
            x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
        if min(x0, y0) == 0 and not self._from_zero:
            self._from_zero = place
        difficult = (item.findtext("difficult") or "").strip() == "1"
        if difficult:
            self.report.add("noted", "difficult objects: neither trained on nor counted", place)
        polygon = _polygon(item)
        box = SourceBox(0, (x0, y0, x1, y1), place, mask=polygon, ignored=difficult)
        return name, box

    def finish(self, classes: list[str]) -> SourceData:
        """The source, its corners turned into boxes."""
        shift = 0 if self._from_zero else 1
        if self._from_zero:
            self.report.add("noted", "pixels count from 0, not from VOC's 1", self._from_zero)
        places = {name: index for index, name in enumerate(classes)}
        if unknown := [name for name in self.names if name not in places]:
            raise ValueError(
                f"{self.files.given}: {self.names[unknown[0]]} is a {unknown[0]!r}, which "
                "--classes does not name"
            )
        for image, boxes in zip(self.images, self._boxes, strict=True):
            for name, box in boxes:
                x0, y0, x1, y1 = box.box
                x0, y0 = x0 - shift, y0 - shift
                box.box = x0, y0, x1 - x0, y1 - y0
                box.label = places[name]
                if box.mask:
                    box.mask = [[value - shift for value in box.mask]]
                image.boxes.append(box)
        return SourceData(self.images, classes, self.report)


def _parse(path: Path, files: SourceFiles) -> Element:
    require_regular(path)
    try:
        root: Element = fromstring(path.read_bytes())
    except DefusedXmlException as error:
        raise ValueError(
            f"{path} declares entities or a document type, which annotations need not "
            f"({type(error).__name__}); take it out, or name the folder of others by --labels DIR"
        ) from None
    except (ParseError, ValueError, LookupError) as error:
        raise ValueError(
            f"{path} is no XML ({error}); mend it or take it out, or name the folder of the "
            "annotations by --labels DIR"
        ) from None
    if root.tag == "annotations":
        raise ValueError(
            f"{path} is CVAT's own format; export as COCO 1.0 (--from coco) or Pascal VOC 1.1"
        )
    if root.tag != "annotation":
        raise ValueError(
            f"{path}: expected <annotation> at the top, got <{root.tag}>; --labels DIR names the "
            "folder of the annotations"
        )
    return root


def _stated_size(root: Element) -> tuple[int, int] | None:
    sides = [_number(root.findtext(f"size/{key}")) for key in ("width", "height")]
    if not all(math.isfinite(side) and side >= 1 for side in sides):
        return None  # LabelImg writes 0 where it does not know
    return int(sides[0]), int(sides[1])


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def _polygon(item: Element) -> Any:
    """x, y in turn of Roboflow's <polygon>; None if there is none."""
    polygon = item.find("polygon")
    if polygon is None:
        return None
    values = [_number(child.text) for child in polygon]
    usable = len(values) >= 6 and len(values) % 2 == 0 and all(map(math.isfinite, values))
    return values if usable else None
