"""Images with a mask each: class numbers, palettes, colours, or black and white."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from fineclip.annotations import FileReport
from fineclip.images import JPEG_FORMATS, UnusableImageError, opened_image, read_bytes, upright
from fineclip.importing.classes import NO_CLASS, given_classes, names_by_line
from fineclip.importing.finding import SourceFiles, name_words, read_lines, split_of
from fineclip.importing.source import ImportOptions, SourceData, SourceImage
from fineclip.importing.voc import listed_splits
from fineclip.progress import track

_MASK_WORDS = frozenset(
    {"mask", "masks", "label", "labels", "annotation", "annotations", "annot", "gt", "seg"}
    | {"segmentationclass", "segmentation", "segmentations", "labelmaps", "semantic", "groundtruth"}
    | {"trainannot", "valannot", "testannot", "ann", "anns", "groundtruths"}
)
_IMAGE_WORDS = frozenset({"images", "image", "imgs", "img", "jpegimages", "pictures", "photos"})
_INSTANCE_WORDS = frozenset({"segmentationobject", "instances", "instance"})
_SUFFIX = re.compile(r"[-_. ](masks?|labels?|gt|seg|segmentation|annotation|L|labelIds)$", re.I)
_ONE_CHANNEL = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
_NAME_FILES = ("classes.txt", "label_names.txt", "names.txt", "labels.txt", "class_names.txt")
_COLORS_NEED = "labelmap.txt beside them, in lines name:red,green,blue::, says what colours are"
_VALUES_NEED = "--classes names them in the order of their values"
CLASS_TABLES = ("_classes.csv", "class_dict.csv")
"""Tables of the classes of masks."""

IGNORED = 255
"""Value that is no class in nearly all masks, whatever the classes are."""


@dataclass
class MaskClasses:
    """What the values or colours of masks stand for.

    Attributes:
        names: Of the classes, in the order of their values; what is no class included.
        colors: (n, 3) uint8 of each, None where values are numbers.
        values: Value of each; None: 0, 1, 2, ...
        file: Which says so.
    """

    names: list[str]
    colors: np.ndarray | None = None
    values: list[int] | None = None
    file: str = "--classes"


@dataclass
class _Seen:
    """What masks hold.

    Attributes:
        values: Each value or colour (as one number) with the first mask that has it.
        colored: Whether they are colours.
        sizes: Of each mask.
    """

    values: dict[int, Path] = field(default_factory=dict)
    colored: bool = False
    sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)


def read_masks(files: SourceFiles, options: ImportOptions) -> SourceData:
    """Reads images and their masks, which are paired by name.

    Args:
        files: The source.
        options: ``classes``, ``images``, ``labels`` (the masks) and ``reduce_zero`` are read.

    Returns:
        Its images, each with its mask, and how a mask is read. What is called "background" and the
        like, and value 255, is no class.

    Raises:
        FileNotFoundError: There are no images or masks, or they do not go together.
        ValueError: Values that no class is named for; the message names the first mask and the
            option that helps.
    """
    report = FileReport(str(files.given))
    listed = listed_splits(files)
    pairs = _pair(files, report)
    if listed and (left := [image for image in pairs if image.stem not in listed]):
        pairs = {image: mask for image, mask in pairs.items() if image.stem in listed}
        reason = "images that are in none of the lists, left out"
        report.add("noted", reason, files.short(left[0]), count=len(left))
    known = _mask_classes(files, options)
    as_colors = known is not None and known.colors is not None
    seen = _Seen()
    for mask in track(list(pairs.values()), "masks", "mask"):
        values = _read(mask, as_colors=as_colors)
        seen.colored |= values.ndim == 3
        seen.sizes[mask] = values.shape[1], values.shape[0]
        for value in _distinct(_one_number(values)):
            seen.values.setdefault(value, mask)
    names, table = _table(seen, known, options, report, str(files.given))
    ignore = IGNORED if len(names) <= IGNORED else 65535

    def read(mask: Path) -> np.ndarray:
        values = _one_number(_read(mask, as_colors=as_colors))
        found = np.full(values.shape, ignore, np.uint8 if ignore == IGNORED else np.uint16)
        for value in _distinct(values):
            if (label := table[value]) >= 0:
                found[values == value] = label
        return found

    images = [
        SourceImage(
            image,
            listed.get(image.stem) if listed else _split(files, image),
            mask=mask,
            stated=seen.sizes[mask],
        )
        for image, mask in pairs.items()
    ]
    return SourceData(images, names, report, read_mask=read, ignore_label=ignore)


def _split(files: SourceFiles, path: Path) -> str | None:
    """As :meth:`SourceFiles.split_of_folder`, for ``train_images/`` as well."""
    for part in path.relative_to(files.image_root).parts[:-1]:
        if (split := split_of(name_words(part))) is not None:
            return split
    return None


def _pair(files: SourceFiles, report: FileReport) -> dict[Path, Path]:
    """Mask by image."""
    candidates = [
        path
        for path in files.require_images()
        if not _folder_words(path, files.image_root) & _INSTANCE_WORDS
    ]
    if files.named_labels is not None:
        masks = files.labels(".png", ".bmp", ".tif", ".tiff", ".gif", ".jpg", ".jpeg", ".webp")
        images = [path for path in candidates if path not in set(masks)]
    else:
        masks = [path for path in candidates if _is_mask(path, files.image_root)]
        images = [path for path in candidates if path not in set(masks)]
    named = [path for path in images if _folder_words(path, files.image_root) & _IMAGE_WORDS]
    images = named or images
    if not masks or not images:
        what = "masks" if not masks else "images"
        option = "--labels" if not masks else "--images"
        raise FileNotFoundError(
            f"{files.given}: no {what} (folders images/ and masks/, or names such as a.jpg and "
            f"a_mask.png are looked for); {option} DIR names their folder"
        )
    by_stem: dict[str, list[Path]] = {}
    for mask in masks:
        for stem in {mask.stem.casefold(), _SUFFIX.sub("", mask.stem).casefold()}:
            by_stem.setdefault(stem, []).append(mask)
    pairs: dict[Path, Path] = {}
    for image in images:
        found = by_stem.get(image.stem.casefold()) or by_stem.get(
            _SUFFIX.sub("", image.stem).casefold(), []
        )
        if not found:
            report.add("dropped", "images without a mask", files.short(image))
            continue
        pairs[image] = _closest(image, found, files)
    if not pairs:
        raise FileNotFoundError(
            f"{files.given}: no image and mask have the same name (first: "
            f"{files.short(images[0])} and {files.short(masks[0])}); --images DIR and --labels DIR "
            "name the folders that go together"
        )
    if left := len(set(masks) - set(pairs.values())):
        report.add("noted", "masks without an image", count=left)
    return pairs


def looks_like_masks(files: SourceFiles) -> bool:
    """Whether a source has images and, by their places or names, masks."""
    masks = [_is_mask(path, files.image_root) for path in files.images]
    return any(masks) and not all(masks)


def _closest(image: Path, masks: Sequence[Path], files: SourceFiles) -> Path:
    """Of masks with the right name the one of the same split and subfolders."""
    if len(masks) == 1:
        return masks[0]
    own = {part.casefold() for part in image.parts} | {_split(files, image)}
    split = split_of([word for part in image.parts[:-1] for word in name_words(part)])

    def shared(mask: Path) -> tuple[bool, int]:
        words = [word for part in mask.parts[:-1] for word in name_words(part)]
        return split_of(words) == split, len(own & {part.casefold() for part in mask.parts})

    best = max(map(shared, masks))
    first = [mask for mask in masks if shared(mask) == best]
    if len(first) > 1:
        raise ValueError(
            f"{files.given}: the mask of {files.short(image)} may be {files.short(first[0])} or "
            f"{files.short(first[1])}; --labels DIR names the folder of those that are meant"
        )
    return first[0]


def _is_mask(path: Path, root: Path) -> bool:
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return (
            bool(_SUFFIX.search(path.stem))
            and path.with_name(_SUFFIX.sub("", path.stem) + path.suffix).exists()
        )
    if _folder_words(path, root) & _MASK_WORDS or _SUFFIX.search(path.stem):
        return True
    return any(path.with_suffix(suffix).is_file() for suffix in (".jpg", ".jpeg", ".JPG"))


def _folder_words(path: Path, root: Path) -> set[str]:
    folders = path.relative_to(root).parts[:-1]
    return {word.lower() for folder in folders for word in (*name_words(folder), folder)}


def _read(path: Path, *, as_colors: bool = False) -> np.ndarray:
    """A mask as (H, W) values, or (H, W, 3) colours where its channels differ or are asked for.

    Raises:
        UnusableImageError: It cannot be decoded, or is a JPEG file, whose values are not exact.
    """
    with opened_image(read_bytes(path), path) as image:
        if image.format in JPEG_FORMATS:
            raise UnusableImageError(
                path,
                "is a mask in JPEG, which does not keep values as they were; save masks as PNG, or "
                "name the folder of others by --labels DIR",
            )
        mode = image.mode
        shown: Image.Image = upright(image)
        if mode in _ONE_CHANNEL and not (as_colors and mode == "P"):
            values = np.asarray(shown)
            values = values * np.uint8(255) if mode == "1" else values
            return np.repeat(values[..., None], 3, axis=-1) if as_colors else values
        colors = np.asarray(shown.convert("RGB"))
    grey = (colors == colors[..., :1]).all()
    return colors[..., 0] if grey and not as_colors else colors


def _distinct(values: np.ndarray) -> list[int]:
    """The values that occur, in ascending order."""
    if values.dtype == np.uint8:
        return np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()
    return np.unique(values).tolist()


def _one_number(values: np.ndarray) -> np.ndarray:
    """(H, W) values as they are, (H, W, 3) colours as one number each."""
    if values.ndim == 2:
        return values
    red, green, blue = (values[..., channel].astype(np.int64) for channel in range(3))
    return (red << 16) + (green << 8) + blue


def _mask_classes(files: SourceFiles, options: ImportOptions) -> MaskClasses | None:
    """What the source, or the user, says of the classes."""
    given = given_classes(options.classes)
    for path in files.files:
        name = path.name.lower()
        if name == "labelmap.txt" and not given:
            return _cvat_label_map(path)
        if name in CLASS_TABLES and not given:
            return _table_of_classes(path)
    if given:
        colored = next((p for p in files.files if p.name.lower() == "labelmap.txt"), None)
        if colored is not None:
            known = _cvat_label_map(colored)
            if sorted(known.names) == sorted(given):
                return known
        return MaskClasses(given)
    for path in files.files:
        if path.name.lower() in _NAME_FILES:
            return MaskClasses(names_by_line(path), file=str(path))
    return None


def _cvat_label_map(path: Path) -> MaskClasses:
    """CVAT's lines ``name:red,green,blue:parts:actions``."""
    names, colors = [], []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        color = rest.split(":")[0].split(",")
        if not name.strip() or len(color) != 3 or not all(c.strip().isdecimal() for c in color):
            raise ValueError(
                f"{path}:{number}: expected a line name:red,green,blue::, got {line!r:.100}; "
                "--classes names the classes of numbered masks"
            )
        names.append(name.strip())
        colors.append([min(255, int(channel)) for channel in color])
    return MaskClasses(names, colors=np.array(colors, np.uint8).reshape(-1, 3), file=str(path))


def _table_of_classes(path: Path) -> MaskClasses:
    """Roboflow's table ``Pixel Value, Class``, or CamVid's ``name,r,g,b``."""
    rows = [[cell.strip() for cell in row] for row in csv.reader(read_lines(path))]
    numbered = [row for row in rows if len(row) == 2 and row[0].isdecimal()]
    if numbered:
        values = [int(row[0]) for row in numbered]
        return MaskClasses([row[1] for row in numbered], values=values, file=str(path))
    colored = [row for row in rows if len(row) == 4 and all(c.isdecimal() for c in row[1:])]
    if not colored:
        raise ValueError(
            f"{path}: expected lines 'Pixel Value, Class' or 'name,r,g,b'; --classes names the "
            "classes"
        )
    colors = np.array([[min(255, int(c)) for c in row[1:]] for row in colored], np.uint8)
    return MaskClasses([row[0] for row in colored], colors=colors, file=str(path))


def _table(
    seen: _Seen,
    known: MaskClasses | None,
    options: ImportOptions,
    report: FileReport,
    source: str,
) -> tuple[list[str], dict[int, int]]:
    """Names of the classes, and class index of each value or colour, -1 for none."""
    values = sorted(seen.values)
    if known is None:
        what = f"{len(values)} {'colours' if seen.colored else 'values'}"
        shown = ", ".join(_shown(value, seen.colored) for value in values[:6])
        shown += ", ..." if len(values) > 6 else ""
        raise ValueError(
            f"{source}: the masks hold {what} ({shown}), and no file names their classes; "
            + (
                _COLORS_NEED
                if seen.colored
                else "--classes names them in the order of their values"
            )
        )
    entries = _entries(seen, known, options, report, source)
    names: list[str] = []
    table: dict[int, int] = {}
    for value, name in entries.items():
        if name is None or name.casefold() in NO_CLASS:
            table[value] = -1
            continue
        if name not in names:
            names.append(name)
        table[value] = names.index(name)
    for value, name in entries.items():
        if name is not None and name.casefold() in NO_CLASS and value in seen.values:
            report.add("noted", f"{name!r} is no class: its pixels are not learnt from", name)
    if not seen.colored:
        table.setdefault(IGNORED, -1)
    for value in values:
        if value not in table:
            raise ValueError(
                f"{seen.values[value]} holds {_shown(value, seen.colored)}, for which "
                f"{known.file} names no class ({len(known.names)} names); "
                + (_COLORS_NEED if seen.colored else _VALUES_NEED)
                + (
                    ""
                    if seen.colored or options.reduce_zero
                    else ", --reduce-zero takes 0 for none"
                )
            )
    return names, table


def _entries(
    seen: _Seen,
    known: MaskClasses,
    options: ImportOptions,
    report: FileReport,
    source: str,
) -> dict[int, str | None]:
    """Name of each value or colour, None for what is no class."""
    if known.colors is not None:
        seen.colored = True
        numbers = _one_number(known.colors[None])[0].tolist()
        return dict(zip(numbers, known.names, strict=True))
    if seen.colored:
        raise ValueError(
            f"{source}: {next(iter(seen.values.values()))} is a mask of colours, and {known.file} "
            f"does not say which class a colour is; {_COLORS_NEED}"
        )
    if known.values is not None:
        return dict(zip(known.values, known.names, strict=True))
    names: list[str | None] = list(known.names)
    binary = set(seen.values) <= {0, IGNORED} and IGNORED in seen.values
    if binary and len(names) <= 2 and not options.reduce_zero:
        if len(names) == 1:
            reason = "0 of black and white masks is no class; two names by --classes make it one"
            report.add("noted", reason, str(names[0]))
            names = [None, *names]
        return {0: names[0], IGNORED: names[1]}
    if options.reduce_zero:
        names = [None, *names]
    return dict(enumerate(names))


def _shown(value: int, colored: bool) -> str:
    if not colored:
        return f"value {value}"
    return f"colour {value >> 16},{value >> 8 & 255},{value & 255}"
