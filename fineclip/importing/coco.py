"""COCO's format: plain, and as CVAT, Label Studio and Roboflow export it.

A file of boxes or several, one of captions beside it; which split a file is of follows from its
name or folder. File names are those of another machine more often than not: images are found in
the source by what is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fineclip.annotations import FileReport, audit_boxes, audit_captions, mask_of
from fineclip.files import read_json
from fineclip.images import UnusableImageError
from fineclip.importing.classes import given_classes
from fineclip.importing.finding import SourceFiles, name_words, split_of
from fineclip.importing.pictures import upright_size
from fineclip.importing.source import ImportOptions, SourceBox, SourceData, SourceImage


@dataclass
class _File:
    """A JSON file of annotations.

    Attributes:
        path: Of the file.
        split: That its name or folder says.
        data: Its content.
    """

    path: Path
    split: str | None
    data: Any


def read_coco(files: SourceFiles, options: ImportOptions) -> SourceData:
    """Reads a data set in COCO's format.

    Args:
        files: The source.
        options: ``classes`` (their order), ``images`` and ``labels`` are read.

    Returns:
        Its images with their boxes, masks and captions; classes are in the order of their ids.

    Raises:
        FileNotFoundError: There are no images or annotations.
        ValueError: A file that the reader of annotations refuses, or another format; the message
            names the file and the option that helps.
    """
    report = FileReport(str(files.given))
    found = _annotation_files(files, report)
    boxes, captions = found["boxes"], found["captions"]
    if not boxes and not captions:
        others = [files.short(path) for path in files.labels(".json")]
        raise FileNotFoundError(
            f"{files.given}: no annotations in COCO's format (a *.json with 'images' and "
            "'annotations'"
            + (f", which {others[0]} has not" if others else "")
            + "); --labels FILE names them"
        )
    reader = _Files(files, report, given_classes(options.classes))
    for file in boxes:
        reader.add_boxes(file)
    for file in captions:
        reader.add_captions(file)
    if not reader.images:
        first = (boxes or captions)[0].path
        raise FileNotFoundError(
            f"{first}: none of its images (first: {reader.missing}) is in {files.image_root}; "
            "--images DIR names their folder"
        )
    return SourceData(list(reader.images.values()), reader.classes, report)


def kind_of_json(data: Any) -> str:
    """What a JSON file holds: "boxes", "captions", "panoptic", or nothing of the kind ("")."""
    if not isinstance(data, Mapping) or not isinstance(data.get("images"), list):
        return ""
    entries = data.get("annotations")
    if not isinstance(entries, list):
        return ""
    first = entries[0] if entries else None
    if isinstance(first, Mapping):
        for key, kind in (("segments_info", "panoptic"), ("caption", "captions")):
            if key in first and "bbox" not in first:
                return kind
    return "boxes"


def _annotation_files(files: SourceFiles, report: FileReport) -> dict[str, list[_File]]:
    found: dict[str, list[_File]] = {"boxes": [], "captions": [], "panoptic": []}
    paths = files.labels(".json")
    named = len(paths) == 1 and paths[0] in (files.given, files.named_labels)
    for path in paths:
        try:
            data = read_json(path, "annotations")
        except ValueError as error:
            raise ValueError(f"{error}; --labels FILE names the file that counts") from None
        kind = kind_of_json(data) or ("boxes" if named else "")
        if kind:
            folders = [path.parent.name] if path.parent != files.root else []
            split = split_of([*name_words(path.stem), *folders])
            found[kind].append(_File(path, split, data))
    if not found["boxes"] and found["panoptic"]:
        raise ValueError(
            f"{found['panoptic'][0].path} holds panoptic segments, no boxes; --labels FILE names "
            "annotations with 'bbox'"
        )
    instances = [file for file in found["boxes"] if "instances" in file.path.stem.lower()]
    if instances and len(instances) < len(found["boxes"]):
        for file in found["boxes"]:
            if file not in instances:
                reason = "files of boxes beside instances_*.json, left out"
                report.add("noted", reason, files.short(file.path))
        found["boxes"] = instances
    return found


class _Files:
    """Puts the content of several files together."""

    def __init__(self, files: SourceFiles, report: FileReport, classes: list[str]) -> None:
        self.files, self.report = files, report
        self.classes = classes
        self.images: dict[Path, SourceImage] = {}
        self.missing = ""
        self._given = bool(classes)
        self._told_by: dict[Path, Path] = {}  # files of boxes

    def add_boxes(self, file: _File) -> None:
        """Takes in a file of boxes, through the audit of annotations."""
        _take_out_project(file, self.report)
        found = self._find_images(file)
        data, audited = audit_boxes(file.data, str(file.path))
        self._take_over(audited, file)
        labels = self._labels(data["categories"], file)
        entries: dict[Any, SourceImage] = {}
        for image, path in found:
            if path in self._told_by:
                raise ValueError(
                    f"{file.path} and {self._told_by[path]} both annotate "
                    f"{self.files.short(path)}; --labels FILE names the one that counts"
                )
            entries[image["id"]] = self._image(path, file)
            entries[image["id"]].stated = image["width"], image["height"]
        self._told_by |= {path: file.path for _, path in found}
        short = self.files.short(file.path)
        for index, entry in enumerate(data["annotations"]):
            if entry["image_id"] not in entries:
                continue
            box = SourceBox(
                labels[entry["category_id"]],
                tuple(entry["bbox"]),
                f"{short}: annotations[{index}]",
                mask=mask_of(entry),
                ignored=bool(entry["iscrowd"]),
                area=entry["area"],
            )
            entries[entry["image_id"]].boxes.append(box)

    def add_captions(self, file: _File) -> None:
        """Takes in a file of captions."""
        found = self._find_images(file)
        captions, audited = audit_captions(file.data, str(file.path), images=True)
        self._take_over(audited, file)
        for image, path in found:
            if texts := captions.by_image.get(image["id"]):
                self._image(path, file).captions += texts

    def _take_over(self, audited: FileReport, file: _File) -> None:
        """What the audit of a file says, as part of the source's report."""
        try:
            audited.raise_if_refused()
        except ValueError as error:
            raise ValueError(
                f"{error}; mend the file, or name another one by --labels FILE"
            ) from None
        for finding in audited.findings:
            for example in finding.examples:
                place = f"{self.files.short(file.path)}: {example}"
                self.report.add(finding.kind, finding.reason, place, count=0)
            self.report.add(finding.kind, finding.reason, count=finding.count)

    def _image(self, path: Path, file: _File) -> SourceImage:
        """The entry of an image, which may be in a file of boxes and in one of captions."""
        split = file.split or self.files.split_of_folder(path)
        entry = self.images.setdefault(path, SourceImage(path, split))
        if entry.split != split:
            raise ValueError(
                f"{file.path}: {self.files.short(path)} is in {split} here, but in {entry.split} "
                "by another file; --labels FILE names the one that counts"
            )
        return entry

    def _find_images(self, file: _File) -> list[tuple[dict[str, Any], Path]]:
        """The entries of images that are there, with their files; their names become plain ones."""
        found = []
        images = file.data.get("images") if isinstance(file.data, Mapping) else None
        for index, image in enumerate(images if isinstance(images, list) else ()):
            name = image.get("file_name") if isinstance(image, dict) else None
            if not isinstance(name, str) or not name.strip() or "\0" in name:
                continue  # which the audit refuses, by name
            place = f"{file.path}: images[{index}]"
            path = self.files.find_image(name, place, self._near(file))
            if path is not None and not (image.get("width") and image.get("height")):
                try:
                    image["width"], image["height"] = upright_size(path)
                    self.report.add("mended", "images without a size, which is read", place)
                except UnusableImageError:
                    path = None
            if path is None:
                self.missing = self.missing or name
                short = f"{self.files.short(file.path)}: images[{index}] {name}"
                self.report.add("dropped", "images that are not there or cannot be read", short)
                image["file_name"] = name.replace("\\", "/").rsplit("/", 1)[-1]
                continue
            found.append((image, path))
            image["file_name"] = path.name
        return found

    def _near(self, file: _File) -> Path:
        """Where a file's images are if others have the same names."""
        if file.split is not None:
            named = [p.parent for p in self.files.images if split_of([p.parent.name]) == file.split]
            if named:
                return named[0]
        return file.path.parent

    def _labels(self, categories: list[dict[str, Any]], file: _File) -> dict[int, int]:
        """Class index by category id; names that are new are added."""
        labels = {}
        for category in sorted(categories, key=lambda category: category["id"]):
            name = category["name"].strip()
            if name not in self.classes:
                if self._given:
                    raise ValueError(f"{file.path}: the category {name!r} is not in --classes")
                self.classes.append(name)
            labels[category["id"]] = self.classes.index(name)
        return labels


def _take_out_project(file: _File, report: FileReport) -> None:
    """Roboflow's category 0 is the project, above all others; no box is of it."""
    categories = file.data.get("categories") if isinstance(file.data, Mapping) else None
    if not isinstance(categories, list) or not all(isinstance(c, dict) for c in categories):
        return
    first = next((c for c in categories if c.get("id") == 0), None)
    others = [c for c in categories if c is not first]
    if first is None or not others or first.get("supercategory") != "none":
        return
    if any(c.get("supercategory") != first.get("name") for c in others):
        return
    entries = file.data.get("annotations")
    entries = entries if isinstance(entries, list) else []
    if any(isinstance(entry, dict) and entry.get("category_id") == 0 for entry in entries):
        return
    categories.remove(first)
    report.add("mended", "Roboflow's category 0, the project's name, left out", first["name"])
