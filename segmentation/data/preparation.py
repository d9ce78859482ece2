"""From the public downloads to label maps of class indices.

Folders are those of CAT-Seg's release, below one folder of data sets. Nothing that exists is made
again: an interrupted preparation goes on where it stopped. Until it is finished, a new folder of
results has ``.incomplete`` at the end of its name, so that no half data set is ever evaluated.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from fineclip.datasets.label_maps import read_indices
from fineclip.images import read_image
from fineclip.text import load_vocabulary
from segmentation.data.coco_stuff_coding import check_coding
from segmentation.data.pascal_context import prepare_pascal_context
from segmentation.data.preparation_run import (
    LEFT_OUT,
    WRITTEN,
    Prepared,
    Progress,
    count_without_map,
    find_matching,
    find_named,
    finished,
    make_folder,
    read_names,
    save,
)

COCO_STUFF_SPLITS = ("train2017", "val2017")

_COCO_STUFF_PLACES = (
    "coco-stuff/annotations",
    "coco-stuff/stuffthingmaps",
    "coco-stuff/stuffthingmaps_trainval2017",
    "coco-stuff",
    "coco/stuffthingmaps",
    "coco/stuffthingmaps_trainval2017",
    "stuffthingmaps",
    "stuffthingmaps_trainval2017",
)
"""Where SPLIT/*.png may be, the first as CAT-Seg's release has it."""

_ADE847_PLACES = (
    "ADE20K_2021_17_01/images/ADE/validation",
    "ADE20K_2021_17_01/ADE20K_2021_17_01/images/ADE/validation",
    "ADE20K_2021_17_01/images/validation",
    "ADE20K_full/images/ADE/validation",
    "ADE20K_2016_07_26/images/validation",
)
"""Where the validation part may be, the first as it is published."""

_NOTHING = 255  # "no class" in 8-bit label maps
_NOTHING_16 = 65535  # and in those of ADE20K-847
_INVALID = -1  # in tables: a value that the download should not hold
_ADE847_SIDE = 512  # longest shorter side of ADE20K-847 images, in pixels


def prepare_coco_stuff(
    root: Path,
    *,
    splits: Sequence[str] = COCO_STUFF_SPLITS,
    source: Path | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Prepared]:
    """COCO-Stuff 164k: ids of the stuffthingmaps become positions in ``coco_stuff171``.

    Args:
        root: Folder of data sets, with ``coco-stuff/annotations/SPLIT/*.png``; where archives
            leave them otherwise (``stuffthingmaps/SPLIT``) they are found, too.
        splits: Of ``train2017`` and ``val2017``.
        source: Folder that holds the ``SPLIT/*.png``, or those of a single split, if it is another.
        workers: Processes.
        progress: Called with (files done, files in all) now and then, anew for each folder.

    Returns:
        One entry per split, made as ``coco-stuff/annotations_detectron2/SPLIT``.

    Raises:
        FileNotFoundError: The download is not where it should be.
        ValueError: A file of it cannot be used, or the maps are not coded as the download's; the
            message names it.
    """
    folder = root / "coco-stuff"
    parents = [root / place for place in _COCO_STUFF_PLACES] if source is None else [source]
    itself = [source] if source is not None and len(splits) == 1 else []
    table = np.full(256, _INVALID, dtype=np.int64)
    # Some ids up to the last belong to no class: they are ignored, not refused.
    ids = load_vocabulary("coco_stuff171").required_ids
    table[: max(ids)] = _NOTHING
    for index, id_ in enumerate(ids):
        table[id_ - 1] = index
    table[255] = _NOTHING
    # All before any: a missing split should not show up after an hour.
    sources = [
        find_matching(
            [*(parent / split for parent in parents), *itself],
            "*.png",
            "COCO-Stuff's label maps, stuffthingmaps_trainval2017.zip "
            "(https://github.com/nightrome/cocostuff)",
        )
        for split in splits
    ]
    for files in sources:
        check_coding(files)
    return [
        _relabel(
            files,
            folder / "annotations_detectron2" / split,
            table,
            workers,
            progress,
            without_map=count_without_map(folder / "images" / split, files),
        )
        for split, files in zip(splits, sources, strict=True)
    ]


def prepare_ade20k_150(
    root: Path,
    *,
    source: Path | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Prepared]:
    """ADE20K SceneParsing 150: 1 to 150 become 0 to 149, 0 is ignored.

    Args:
        root: Folder of data sets, with ``ADEChallengeData2016/annotations/validation/*.png``.
        source: Folder of the label maps, if it is another.
        workers: See :func:`prepare_coco_stuff`.
        progress: See :func:`prepare_coco_stuff`.

    Returns:
        One entry, made as ``ADEChallengeData2016/annotations_detectron2/validation``.

    Raises:
        FileNotFoundError: The download is not where it should be.
        ValueError: A file of it cannot be used; the message names it.
    """
    folder = root / "ADEChallengeData2016"
    usual = (folder, root / "ade" / folder.name, folder / folder.name)
    files = find_matching(
        [place / "annotations" / "validation" for place in usual] if source is None else [source],
        "*.png",
        "the label maps of ADEChallengeData2016.zip (http://sceneparsing.csail.mit.edu)",
    )
    target = folder / "annotations_detectron2" / "validation"
    return [
        _relabel(
            files,
            target,
            _from_one("ade150"),
            workers,
            progress,
            without_map=count_without_map(folder / "images" / "validation", files),
        )
    ]


def prepare_voc20(
    root: Path,
    *,
    source: Path | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Prepared]:
    """PASCAL VOC 2012, without and with background.

    Args:
        root: Folder of data sets, with ``VOCdevkit/VOC2012/SegmentationClassAug/*.png`` and
            ``VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt``. VOC's own ``SegmentationClass``
            will do, for it has the same label maps of the validation images.
        source: Folder of the label maps, if it is another.
        workers: See :func:`prepare_coco_stuff`.
        progress: See :func:`prepare_coco_stuff`.

    Returns:
        Two entries, made as ``VOCdevkit/VOC2012/annotations_detectron2/val`` (1 to 20 become 0 to
        19, the rest is ignored, images with nothing else are left out) and
        ``annotations_detectron2_bg/val`` (background becomes 20, borders are ignored).

    Raises:
        FileNotFoundError: The download is not where it should be.
        ValueError: A file of it cannot be used; the message names it.
    """
    folder = root / "VOCdevkit" / "VOC2012"
    names = read_names(
        folder / "ImageSets" / "Segmentation" / "val.txt",
        "the validation list of VOCtrainval_11-May-2012.tar "
        "(http://host.robots.ox.ac.uk/pascal/VOC/voc2012)",
    )
    usual = ("SegmentationClassAug", "SegmentationClass")
    files = find_named(
        [folder / place for place in usual] if source is None else [source],
        names,
        ".png",
        "the label maps of SegmentationClassAug.zip (VOC 2012's with those of SBD)",
    )
    objects = _from_one("voc20")
    objects[255] = _NOTHING
    background = objects.copy()
    background[0] = len(load_vocabulary("voc20"))
    return [
        _relabel(files, folder / part / "val", table, workers, progress, leave_out=True)
        for part, table in (
            ("annotations_detectron2", objects),
            ("annotations_detectron2_bg", background),
        )
    ]


def prepare_ade20k_847(
    root: Path,
    *,
    source: Path | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Prepared]:
    """ADE20K's full annotation: object ids become positions in ``ade847``, all others 65535.

    As in the benchmark, images and label maps whose shorter side has more than 512 pixels are
    shrunk to that, and all images are encoded anew.

    Args:
        root: Folder of data sets, with ``ADE20K_2021_17_01/images/ADE/validation``: below it, at
            any depth, ``NAME.jpg`` beside ``NAME_seg.png``.
        source: The folder of these, if it is another.
        workers: See :func:`prepare_coco_stuff`.
        progress: See :func:`prepare_coco_stuff`.

    Returns:
        One entry, made as ``ADE20K_2021_17_01/annotations_detectron2/validation`` (16-bit TIFF),
        with images in ``ADE20K_2021_17_01/images_detectron2/validation``.

    Raises:
        FileNotFoundError: The download is not where it should be.
        ValueError: A file of it cannot be used; the message names it.
    """
    folder = root / "ADE20K_2021_17_01"
    images = find_matching(
        [root / place for place in _ADE847_PLACES] if source is None else [source],
        "**/*.jpg",
        "the images of ADE20K_2021_17_01 (https://groups.csail.mit.edu/vision/datasets/ADE20K)",
    )
    # The benchmark puts the images of all scenes into one folder.
    if repeated := [name for name, n in Counter(p.name for p in images).items() if n > 1]:
        where = " and ".join(str(p) for p in images if p.name == repeated[0])
        raise ValueError(f"several images of the name {repeated[0]}: {where}")
    if missing := [path for path in images if not _colors_of(path).is_file()]:
        raise FileNotFoundError(
            f"{missing[0]} has no label map {_colors_of(missing[0]).name} beside it, like "
            f"{len(missing)} of {len(images)} images"
        )
    vocabulary = load_vocabulary("ade847")
    ids = vocabulary.required_ids
    table = np.full(max(ids) + 1, _NOTHING_16, dtype=np.uint16)
    table[list(ids)] = np.arange(len(vocabulary))
    target = folder / "annotations_detectron2" / "validation"
    with finished(folder / "images_detectron2" / "validation") as image_folder:
        convert = functools.partial(_convert_ade847, image_folder=image_folder, table=table)
        sources = {f"{path.stem}.tif": path for path in images}
        return [make_folder(target, sources, convert, workers, progress)]


PREPARATIONS: dict[str, Callable[..., list[Prepared]]] = {
    "coco-stuff": prepare_coco_stuff,
    "ade20k-150": prepare_ade20k_150,
    "ade20k-847": prepare_ade20k_847,
    "pascal-context": prepare_pascal_context,
    "voc20": prepare_voc20,
}
"""By task of tools/prepare.py."""


def _from_one(vocabulary: str) -> np.ndarray:
    """Table of 256 labels for maps in which 1 is the first class and 0 none."""
    classes = len(load_vocabulary(vocabulary))
    table = np.full(256, _INVALID, dtype=np.int64)
    table[0] = _NOTHING
    table[1 : classes + 1] = np.arange(classes)
    return table


def _relabel(
    files: Sequence[Path],
    target: Path,
    table: np.ndarray,
    workers: int,
    progress: Progress | None,
    leave_out: bool = False,
    without_map: int = 0,
) -> Prepared:
    """Makes a folder of 8-bit PNG maps from one of the same names."""
    convert = functools.partial(_convert_indices, table=table, leave_out=leave_out)
    sources = {path.name: path for path in files}
    return make_folder(target, sources, convert, workers, progress, without_map)


def _convert_indices(source: Path, target: Path, *, table: np.ndarray, leave_out: bool) -> str:
    values = read_indices(source)
    wrong = np.setdiff1d(values, np.flatnonzero(table != _INVALID))
    if wrong.size:
        raise ValueError(
            f"label map {source} holds {wrong[0]}, which the data set does not use; is this "
            "the original download?"
        )
    labels = table[values].astype(np.uint8)
    if leave_out and (labels == _NOTHING).all():
        return LEFT_OUT
    save(labels, target, "PNG")
    return WRITTEN


def _convert_ade847(source: Path, target: Path, *, image_folder: Path, table: np.ndarray) -> str:
    label_file = _colors_of(source)
    image, colors = _pixels(source), _pixels(label_file)
    if image.shape != colors.shape:
        raise ValueError(
            f"label map {label_file} has {colors.shape[1]} x {colors.shape[0]} pixels, its image "
            f"{image.shape[1]} x {image.shape[0]}"
        )
    # As the release codes object classes: each ten of red counts 256, each one of green 1.
    ids = colors[..., 0].astype(np.int32) // 10 * 256 + colors[..., 1]
    labels = np.full(ids.shape, _NOTHING_16, dtype=np.uint16)
    listed = ids < len(table)
    labels[listed] = table[ids[listed]]
    height, width = labels.shape
    shorter = min(height, width)
    if shorter > _ADE847_SIDE:
        size = [round(side / shorter * _ADE847_SIDE) for side in (width, height)]
        # By OpenCV, which does not smooth: so the benchmark's images were made.
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    # The label map last, for it decides whether the pair is made again.
    save(image, image_folder / source.name, "JPEG")
    save(labels, target, "TIFF")
    return WRITTEN


def _colors_of(image: Path) -> Path:
    """The label map, in colours, of an image of ADE20K's full annotation."""
    return image.with_name(f"{image.stem}_seg.png")


def _pixels(path: Path) -> np.ndarray:
    """(H, W, 3) uint8."""
    return np.asarray(read_image(path))
