"""YOLO: a text file per image, a line per object, numbers from 0 to 1.

Layouts of ultralytics (``data.yaml``, ``images/`` and ``labels/`` in either nesting, lists of
images), darknet (``obj.data``, ``obj.names``, labels beside the images) and plain folders with a
``classes.txt``. Boxes, polygons (segmentation, oriented boxes) and key points, of which the box is
taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fineclip.annotations import FileReport
from fineclip.datasets.description import SPLITS
from fineclip.importing.classes import classes_of_yaml, given_classes, names_by_line, read_keys
from fineclip.importing.finding import SourceFiles, name_key, read_lines, split_of, without_hash
from fineclip.importing.source import ImportOptions, SourceBox, SourceData, SourceImage
from fineclip.paths import inside, leaves_folder

_NAME_FILES = ("classes.txt", "obj.names", "predefined_classes.txt", "_darknet.labels")

_NOT_LABELS = frozenset(
    {"classes.txt", "predefined_classes.txt", "labels.txt", "readme.txt", "notes.txt"}
    | {"readme.dataset.txt", "readme.roboflow.txt", "requirements.txt", "license.txt"}
)

MOST_MALFORMED = 0.1
"""Share of the lines of labels that may be malformed, and are left out aloud."""

_MOST_CLASSES = 1e6
_PIXELS, _STICKS_OUT = 1.5, 0.02
"""Beyond the first, a coordinate is no part of an image; by the second, more than rounding."""


@dataclass
class _Config:
    """What ``data.yaml`` or ``obj.data`` says.

    Attributes:
        file: Which it is.
        names: The classes, empty if it does not say.
        splits: What it says of each split: folders and lists.
        key_points: Numbers of a line beyond the box.
        base: ``path`` of ultralytics.
    """

    file: Path
    names: list[str]
    splits: dict[str, list[str]]
    key_points: int = 0
    base: str = ""


def read_yolo(files: SourceFiles, options: ImportOptions) -> SourceData:
    """Reads a data set in YOLO's format.

    Args:
        files: The source.
        options: ``classes``, ``images`` and ``labels`` are read.

    Returns:
        Its images with their boxes, which are relative.

    Raises:
        FileNotFoundError: There are no images or no labels.
        ValueError: Another format, or something that would make labels wrong; the message names
            the file and the option that helps.
    """
    images = files.require_images()
    without = bool(options.classes) and options.images is not None
    config = None if without else _find_config(files)
    classes, origin = given_classes(options.classes), "--classes"
    if not classes:
        classes, origin = _class_names(files, config)
    report = FileReport(str(files.given))
    splits = _splits(files, config, images, report)
    labels = _Labels(files)
    reader = _Lines(classes, origin, config, report)
    source = SourceData([], classes, report, relative=True)
    found = {image: labels.of(image) for image in splits}
    labels.require_some(len(splits))
    labelled = {splits[image] for image, label in found.items() if label is not None}
    for image, label in found.items():
        split, boxes = splits[image], []
        if split not in labelled:
            reason = f"images of {split}, of which none has a label file, left out"
            report.add("dropped", reason, files.short(image))
            continue
        if label is not None:
            boxes = reader.read(label, files.short(label))
        else:
            reason = "images without a label file: nothing is on them"
            report.add("noted", reason, files.short(image))
        source.images.append(SourceImage(image, split, boxes))
    reader.judge()
    for path in labels.unused():
        if not _is_list(path):
            report.add("noted", "label files without an image", files.short(path))
    return source


def _find_config(files: SourceFiles) -> _Config | None:
    suffix = files.given.suffix.lower()
    if files.given.is_file():
        if suffix in (".yaml", ".yml"):
            return _yaml_config(files.given)
        if suffix == ".data":
            return _darknet_config(files.given)
        raise ValueError(f"{files.given}: expected a folder, data.yaml or obj.data for --from yolo")
    found = [
        path
        for path in files.files
        if path.suffix.lower() in (".yaml", ".yml") and _has_names(path, files.root)
    ]
    if len(found) > 1:
        first, second = (files.short(path) for path in found[:2])
        raise ValueError(
            f"{files.root} has two files of classes, {first} and {second}; give the one that is "
            "meant as SRC"
        )
    if found:
        return _yaml_config(found[0])
    darknet = [path for path in files.files if path.name.lower() == "obj.data"]
    return _darknet_config(darknet[0]) if darknet else None


def _has_names(path: Path, root: Path) -> bool:
    """Whether a YAML file has names of classes; deep in a source, it may be anything."""
    try:
        return "names" in read_keys(path)
    except ValueError:
        if path.parent == root:
            raise
        return False


def _yaml_config(path: Path) -> _Config:
    data = read_keys(path)
    splits: dict[str, list[str]] = {}
    for key, value in data.items():
        split = split_of([str(key)])
        if split is None or value is None or value == "":
            continue
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(entry, str) for entry in values):
            raise ValueError(
                f"{path}: {key!r} must be a folder, a list of images in a file, or several of "
                f"them, got {value!r:.100}; --images DIR names the folder of all images"
            )
        splits[split] = values
    shape = data.get("kpt_shape")
    key_points = math.prod(shape) if isinstance(shape, list) else 0
    base = data.get("path")
    names = classes_of_yaml(data, path) if "names" in data else []
    return _Config(path, names, splits, key_points, base if isinstance(base, str) else "")


def _darknet_config(path: Path) -> _Config:
    pairs = [line.partition("=") for line in read_lines(path) if "=" in line]
    values = {key.strip(): value.strip() for key, _, value in pairs}
    splits = {split: [values[key]] for key in values if (split := split_of([key])) and values[key]}
    names = Path(values.get("names", "obj.names").replace("\\", "/")).name
    file = path.parent / names
    return _Config(path, names_by_line(file) if file.is_file() else [], splits)


def _class_names(files: SourceFiles, config: _Config | None) -> tuple[list[str], str]:
    """The names, and which file says so."""
    if config is not None and config.names:
        return config.names, str(config.file)
    for path in files.files:
        if path.name.lower() in _NAME_FILES or path.suffix.lower() == ".names":
            return names_by_line(path), str(path)
    raise FileNotFoundError(
        f"{files.given}: no names of classes (data.yaml with 'names', classes.txt or obj.names); "
        "--classes names them, in the order of the labels' numbers"
    )


def _splits(
    files: SourceFiles, config: _Config | None, images: Sequence[Path], report: FileReport
) -> dict[Path, str | None]:
    """The images that count, each with its split."""
    named: dict[str, list[str]] = {} if config is None else config.splits
    base = files.root if config is None else config.file.parent
    if not named:
        lists = {s: [f"{s}.txt"] for s in SPLITS if (files.root / f"{s}.txt").is_file()}
        named = {s: names for s, names in lists.items() if _is_list(files.root / names[0])}
    if not named or files.image_root != files.root:
        return {image: files.split_of_folder(image) for image in images}
    found: dict[Path, str | None] = {}
    for split, values in named.items():
        for value in values:
            chosen = _images_of(files, config, base, split, value, images, report)
            for image in chosen:
                if found.setdefault(image, split) != split:
                    # No division: whatever is evaluated on must not be trained on.
                    found[image] = None
                    reason = "images that several splits hold, which are of none"
                    report.add("noted", reason, files.short(image))
    if left := len(images) - len(found):
        report.add("noted", "images that are in none of the splits, left out", count=left)
    return found


def _is_list(path: Path) -> bool:
    """Whether a text file is no label: a list of images, or of whatever."""
    first = next((line for line in read_lines(path) if line.strip()), "0")
    return not _numbers(first.split())


def _images_of(
    files: SourceFiles,
    config: _Config | None,
    base: Path,
    split: str,
    value: str,
    images: Sequence[Path],
    report: FileReport,
) -> list[Path]:
    """The images of a folder or a list that a config names, by whatever path it does so."""
    place = _resolve(base, "" if config is None else config.base, value)
    where = f"{files.root if config is None else config.file}: {split!r}"
    if place is None and split == "train":
        raise FileNotFoundError(
            f"{where} names {value}, which is not below {base}; mend it, or name the folder of all "
            "images by --images DIR"
        )
    if place is None:
        report.add("noted", f"{split}: {value} is not there, left out", where)
        return []
    if place.is_dir():
        chosen = [image for image in images if image.is_relative_to(place)]
        if not chosen:
            raise FileNotFoundError(
                f"{where} names {place}, which holds no images; --images DIR names the folder of "
                "all images"
            )
        return chosen
    chosen = []
    for number, line in enumerate(read_lines(place), 1):
        if not line.strip():
            continue
        at = f"{files.short(place)}:{number}"
        image = files.find_image(line, at, place.parent)
        if image is None:
            report.add("dropped", "listed images that are not there", f"{at} {line.strip()}")
        else:
            chosen.append(image)
    if not chosen:
        raise FileNotFoundError(
            f"{place}: none of the images that it lists is below {files.image_root}; --images DIR "
            "names their folder"
        )
    return chosen


def _resolve(base: Path, prefix: str, value: str) -> Path | None:
    """A path of a config, taken from the folder of the config whatever machine it is from."""
    value, prefix = value.replace("\\", "/"), prefix.replace("\\", "/")
    inner = "/".join(part for part in value.split("/") if part not in ("..", ""))
    for name in (f"{prefix}/{value}" if prefix else value, value, inner):
        if not leaves_folder(name) and (place := inside(base, name)).exists():
            return place
    parts = inner.split("/")  # the tail of a path of another machine
    for start in range(1, len(parts)):
        if (place := base.joinpath(*parts[start:])).exists():
            return place
    return None


class _Labels:
    """Finds the label file of an image."""

    def __init__(self, files: SourceFiles) -> None:
        self.root = files.label_root
        self.files = {
            path: False
            for path in files.labels(".txt")
            if path.name.lower() not in _NOT_LABELS and path.suffix.lower() == ".txt"
        }
        self._image_root = files.image_root
        self._by_stem: dict[str, list[Path]] = {}
        for path in self.files:
            for stem in {name_key(path.stem), name_key(without_hash(path.stem))}:
                self._by_stem.setdefault(stem, []).append(path)

    def of(self, image: Path) -> Path | None:
        """The label file, marked as used."""
        found = self._find(image)
        if found is not None:
            self.files[found] = True
        return found

    def _find(self, image: Path) -> Path | None:
        own = image.with_suffix(".txt")
        parts = list(own.parts)
        for index in range(len(parts) - 2, -1, -1):  # ultralytics: the last "images"
            if parts[index].lower() == "images":
                path = Path(*parts[:index], "labels", *parts[index + 1 :])
                if path in self.files:
                    return path
                break
        if own in self.files:
            return own
        relative = own.relative_to(self._image_root)
        for root in (self.root, self.root / "labels"):
            if root / relative in self.files:
                return root / relative
        named = self._by_stem.get(name_key(image.stem), [])
        folder = image.parent.name  # train/ beside labels/train/
        named = [path for path in named if len(named) == 1 or path.parent.name == folder]
        return named[0] if len(named) == 1 else None

    def unused(self) -> list[Path]:
        """Label files that no image has."""
        return [path for path, used in self.files.items() if not used]

    def require_some(self, images: int) -> None:
        """Raises FileNotFoundError if no image has a label file."""
        if not any(self.files.values()):
            raise FileNotFoundError(
                f"{self.root}: none of the {images} images has a label file (*.txt of the same "
                "name); --labels DIR names their folder"
            )


def _numbers(words: Sequence[str]) -> list[float]:
    """The words as numbers; empty if one is none."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        return []
    return values if all(map(math.isfinite, values)) else []


def _is_class(value: float) -> bool:
    return value.is_integer() and abs(value) < _MOST_CLASSES


class _Lines:
    """Reads the lines of label files, and judges them together."""

    def __init__(
        self, classes: Sequence[str], origin: str, config: _Config | None, report: FileReport
    ) -> None:
        self.classes, self.origin, self.report = classes, origin, report
        self.key_points = 0 if config is None else config.key_points
        self.total = self.malformed = self.pixels = self.sticking_out = self.corners = 0
        self.first: dict[str, str] = {}
        self.unknown: tuple[str, int] | None = None
        self.labels: set[int] = set()

    def read(self, path: Path, short: str) -> list[SourceBox]:
        """The boxes of a file; those of malformed lines are counted and left out."""
        boxes: list[SourceBox] = []
        seen: set[str] = set()
        for number, line in enumerate(read_lines(path), 1):
            words = line.split()
            if not words:
                continue
            place = f"{short}:{number}"
            if (text := " ".join(words)) in seen:
                self.report.add("mended", "repeated lines of a label file, left out", place)
                continue
            seen.add(text)
            self.total += 1
            box = self._box(words, place, f"{path}:{number} ({text})"[:200])
            if box is not None:
                boxes.append(box)
        return boxes

    def _box(self, words: Sequence[str], place: str, line: str) -> SourceBox | None:
        values = _numbers(words)
        if len(values) == 5 + self.key_points and self.key_points:
            self.report.add("dropped", "key points, of which boxes alone are taken", place)
            values = values[:5]
        elif len(values) == 6:
            self.report.add("dropped", "scores after a box", place)
            values = values[:5]
        if len(values) < 5 or len(values) % 2 == 0 or not _is_class(values[0]):
            self._note_malformed(place, line)
            return None
        label, numbers = int(values[0]), values[1:]
        if len(numbers) == 4 and min(numbers[2:]) < 0:
            self._note_malformed(place, line)
            return None
        self.labels.add(label)
        if not 0 <= label < len(self.classes) and self.unknown is None:
            self.unknown = line, label
        if max(numbers) > _PIXELS:
            self.pixels += 1
            self.first.setdefault("pixels", line)
        if len(numbers) == 4:
            x, y, w, h = numbers
            self._compare_with_corners(x, y, w, h, line)
            return SourceBox(label, (x - w / 2, y - h / 2, w, h), place)
        xs, ys = numbers[::2], numbers[1::2]
        box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
        return SourceBox(label, box, place, mask=[numbers])

    def _note_malformed(self, place: str, line: str) -> None:
        self.malformed += 1
        self.first.setdefault("malformed", line)
        self.report.add("dropped", "malformed lines of labels", place)

    def _compare_with_corners(self, x: float, y: float, w: float, h: float, text: str) -> None:
        out = max(w / 2 - x, h / 2 - y, x + w / 2 - 1, y + h / 2 - 1) > _STICKS_OUT
        corners = x < w <= 1 + _STICKS_OUT and y < h <= 1 + _STICKS_OUT
        self.sticking_out += out
        self.corners += corners
        if out and corners:
            self.first.setdefault("corners", text)

    def judge(self) -> None:
        """Refuses labels of which too many, or all, speak for something else.

        Raises:
            ValueError: It names the first file and line, and the option that helps.
        """
        if self.malformed > MOST_MALFORMED * self.total:
            raise ValueError(
                f"{self.first['malformed']}: expected a class number and x, y, width, "
                f"height or the corners of a polygon ({self.malformed} of {self.total} lines are "
                "malformed); is it another format (--from), or are labels elsewhere (--labels)?"
            )
        if self.pixels > MOST_MALFORMED * self.total:
            raise ValueError(
                f"{self.first['pixels']}: coordinates in pixels, but YOLO's are parts of "
                "the image from 0 to 1; is it another format (--from)?"
            )
        if self.unknown is not None:
            place, label = self.unknown
            count = len(self.classes)
            shift = min(self.labels) == 1 and max(self.labels) == count
            hint = "; numbers from 1 on are one too many" if shift else ""
            there = f"{self.origin} names {count} (0 to {count - 1})"
            raise ValueError(
                f"{place}: class {label}, but {there}{hint}; "
                "--classes names all of them in the order of their numbers"
            )
        if self.corners > 0.95 * self.total and self.sticking_out > MOST_MALFORMED * self.total:
            raise ValueError(
                f"{self.first['corners']}: boxes fit as corners x0 y0 x1 y1 alone, but "
                "YOLO's are centre, width and height; is it another format (--from)?"
            )


def is_label_line(line: str) -> bool:
    """Whether a line is one of YOLO's: a class number, then a box or polygon."""
    values = _numbers(line.split())
    return len(values) >= 5 and _is_class(values[0]) and values[0] >= 0
