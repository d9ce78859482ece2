"""From a data set of another program to one that all commands take."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fineclip.annotations import FileReport
from fineclip.datasets.description import DESCRIPTION_FILE, SPLITS
from fineclip.files import replacing_folder
from fineclip.images import SkippedImages, UnusableImageError
from fineclip.importing.finding import SourceFiles
from fineclip.importing.guessing import READERS, guess_format
from fineclip.importing.layout import (
    Placed,
    new_names,
    require_free,
    vocabulary_of,
    write_data,
)
from fineclip.importing.near_duplicates import DISTANCE, divide, duplicate_groups
from fineclip.importing.pictures import Look, look_at
from fineclip.importing.source import ImportOptions, SourceData, SourceImage

DEFAULT_SHARES = (0.8, 0.1, 0.1)
"""Of train, val and test, where neither the source nor the user says."""

_VERSION = re.compile(r"(.+)\.rf\.[0-9a-zA-Z]+$")
"""Roboflow's names of the augmented versions of one image: ``NAME.rf.HASH``."""

_OTHER_SIZE = "images of another size than their annotations or mask"

Progress = Callable[[str, int, int], None]


@dataclass
class Imported:
    """What was made of a source.

    Attributes:
        out: The new data set.
        form: Format of the source, one of :data:`fineclip.importing.READERS`.
        classes: Names of the classes in label order.
        counts: Images by split.
        reports: What was found out: about the source, then about each split's annotations.
        remarks: What else there is to say, a sentence each.
    """

    out: Path
    form: str
    classes: Sequence[str]
    counts: dict[str, int]
    reports: list[FileReport]
    remarks: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        shown = ", ".join(self.classes[:12]) + (", ..." if len(self.classes) > 12 else "")
        images = ", ".join(f"{count} {split}" for split, count in self.counts.items())
        lines = [line for report in self.reports for line in report.lines()]
        lines += self.remarks
        lines.append(f"{sum(self.counts.values())} images ({images})")
        lines.append(f"{len(self.classes)} classes: {shown}")
        return [*lines, f"wrote {self.out / DESCRIPTION_FILE}"]


def import_data(
    src: str | Path,
    out: str | Path,
    *,
    form: str | None = None,
    options: ImportOptions | None = None,
    shares: Sequence[float] | None = None,
    seed: int = 0,
    near_duplicates: int = DISTANCE,
    link: bool = False,
    overwrite: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> Imported:
    """Turns a data set of another program into the one layout.

    Image files are copied as they are, byte for byte. The folder is whole or absent.

    Args:
        src: Folder of the source, or its main file.
        out: Folder to write.
        form: Format, one of :data:`READERS`; None: guessed.
        options: What else is said of the source.
        shares: Of train, val and perhaps test, in place of the source's splits; None: those of
            the source, or :data:`DEFAULT_SHARES`.
        seed: Of the division by ``shares``.
        near_duplicates: Bits that the fingerprints of copies may differ in, see
            :func:`duplicate_groups`; copies are never divided.
        link: Link image files (hard links) instead of copying them.
        overwrite: Replace what an earlier import has written.
        progress: Called with what is done, how much of it and in all.

    Returns:
        What was made, and what was mended and left out.

    Raises:
        FileNotFoundError: Files of the source are missing.
        FileExistsError: ``out`` holds something.
        ValueError: A source that is another or wrong; the message names the file and the option
            that helps.
    """
    options = options or ImportOptions()
    files = SourceFiles(src, options.images, options.labels)
    for root in {files.root, files.image_root, files.label_root}:
        require_free(Path(out), root, overwrite=overwrite)
    files.require_images()
    guessed = form is None
    form = form or guess_format(files)
    source = READERS[form](files, options)
    looks = _looked_at(source, progress)
    images = [image for image in source.images if image.path in looks]
    result = Imported(Path(out), form, (), {}, [source.report])
    if guessed:
        result.remarks.append(f"taken for {form}; --from says otherwise")
    groups = duplicate_groups(
        np.stack([looks[image.path].fingerprint for image in images]),
        near_duplicates,
        [_original(image.path) for image in images],
        lambda done, total: progress("near-duplicates", done, total),
    )
    _assign_splits(images, groups, shares, seed, files, result)
    vocabulary = vocabulary_of(source, Path(out).name, str(files.given))
    result.classes = vocabulary.names
    if not source.classes:
        result.remarks.append(
            f"captions name no classes, so data.yaml has {vocabulary.names[0]!r} alone; --classes "
            "names those that are to be asked for"
        )
    names = new_names(images, files.image_root, vocabulary.names)
    placed = []
    for image, name in zip(images, names, strict=True):
        placed.append(Placed(image, looks[image.path].size, name))
        if Path(name).name.lower() != image.path.name.lower():
            source.report.add("noted", "images renamed", f"{files.short(image.path)} -> {name}")
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(Path(out)) as folder:
        audits = write_data(
            folder,
            Path(out),
            source,
            vocabulary,
            placed,
            link=link,
            progress=lambda done, total: progress("images", done, total),
        )
    source.report.counts["images"] = len(source.images)
    if boxes := sum(len(image.boxes) for image in images):
        source.report.counts["boxes"] = boxes
        result.reports += [audit for audit in audits if audit.verdict != "clean"]
    how = "linked" if link else "copied as they are"
    result.remarks.append(f"image files were {how}")
    return result


def _looked_at(source: SourceData, progress: Progress) -> dict[Path, Look]:
    """Size and fingerprint of the images that can be used; others are counted and left out."""
    if not source.images:
        raise FileNotFoundError(f"{source.report.file}: no image is left; is it --from another?")
    looks: dict[Path, Look] = {}
    skipped = SkippedImages(len(source.images))
    for done, image in enumerate(source.images, 1):
        try:
            look = look_at(image.path)
        except UnusableImageError as error:
            source.report.add("dropped", "images that cannot be used", str(error))
            skipped.add(0, [(error.file, error.reason)])
        else:
            if image.stated in (None, look.size):
                looks[image.path] = look
            else:
                _leave_out(image, look, source.report)
            skipped.add(1)
        progress("looking at images", done, len(source.images))
    skipped.finish()
    if not looks:
        first = next(f for f in source.report.findings if f.reason == _OTHER_SIZE).examples[0]
        raise ValueError(
            f"{source.report.file}: all {len(source.images)} images are of another size than "
            f"stated ({first}); --images DIR names the folder of the right ones"
        )
    return looks


def _leave_out(image: SourceImage, look: Look, report: FileReport) -> None:
    assert image.stated is not None
    (width, height), (w, h) = look.size, image.stated
    turned = ", its size before it is turned upright" if (w, h) == (height, width) else ""
    place = f"{image.path} is {width} x {height}, stated {w} x {h}{turned}"
    report.add("dropped", _OTHER_SIZE, place)


def _original(path: Path) -> str:
    """Name that the versions of one image share."""
    found = _VERSION.match(path.stem)
    return found[1] if found else str(path)


def _assign_splits(
    images: Sequence[SourceImage],
    groups: np.ndarray,
    shares: Sequence[float] | None,
    seed: int,
    files: SourceFiles,
    result: Imported,
) -> None:
    """Gives each image its split: the source's, or one that is drawn."""
    sizes = Counter(groups.tolist())
    copies = [size for size in sizes.values() if size > 1]
    told = f"{len(copies)} groups of near-duplicates ({sum(copies)} of {len(images)} images)"
    own = {image.split for image in images} - {None}
    # Training alone is no division: nothing would be left to evaluate on.
    if shares is None and own - {"train"}:
        _keep_splits(images, groups, told, files, result)
    else:
        asked = shares is not None
        parts = tuple(shares or DEFAULT_SHARES)
        if not asked:
            parts = parts[: max(1, min(len(parts), len(sizes)))]
        names = [files.short(image.path) for image in images]
        for image, part in zip(images, divide(groups, parts, seed, names), strict=True):
            image.split = SPLITS[part]
        shown = " ".join(f"{share:g}" for share in parts)
        result.remarks.append(f"divided by --split {shown} --seed {seed}; {told}, none divided")
        if max(sizes.values()) > 0.5 * len(images) and len(sizes) > 1:
            result.remarks.append(
                "more than half of the images are near-duplicates of one another, so the shares "
                "are not what was asked for; --near-duplicates with fewer bits tells them apart"
            )
    result.counts = {
        split: count for split in SPLITS if (count := sum(image.split == split for image in images))
    }


def _keep_splits(
    images: Sequence[SourceImage],
    groups: np.ndarray,
    told: str,
    files: SourceFiles,
    result: Imported,
) -> None:
    report = result.reports[0]
    if without := [image for image in images if image.split is None]:
        for image in without:
            image.split = "train"
            report.add("noted", "images without a split, taken for train", files.short(image.path))
    result.remarks.append(f"splits are the source's (--split divides anew); {told}")
    training = {
        group
        for image, group in zip(images, groups.tolist(), strict=True)
        if image.split == "train"
    }
    for image, group in zip(images, groups.tolist(), strict=True):
        if image.split != "train" and group in training:
            reason = (
                f"images of {image.split} with a near-duplicate in train (--split divides anew)"
            )
            report.add("noted", reason, files.short(image.path))
