"""Label maps of PASCAL-Context, from its merged annotation file and its .mat files."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fineclip.annotations import decode_segmentation
from fineclip.files import read_json, require_keys
from fineclip.images import MAX_PIXELS
from fineclip.text import load_vocabulary
from segmentation.data.preparation_run import (
    WRITTEN,
    Prepared,
    Progress,
    find_named,
    make_folder,
    read_names,
    save,
)

_NOTHING = 255  # "no class" in the maps of 59 classes


def prepare_pascal_context(
    root: Path,
    *,
    classes: Collection[int] = (59, 459),
    source: Path | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Prepared]:
    """PASCAL-Context, 59 and 459 classes.

    Of the 59, segments are painted in their order, and other classes are ignored. Of the 459, 1 to
    459 become 0 to 458, and 0 becomes the ignore label 459.

    Args:
        root: Folder of data sets. In ``VOCdevkit/VOC2010`` there must be ``trainval_merged.json``
            and, for the 459, ``trainval/*.mat``. For these alone a ``pascalcontext_val.txt`` (names
            of the validation images, one a line) takes the place of the first.
        classes: Of 59 and 459.
        source: The folder of these files, if it is not ``VOCdevkit/VOC2010``.
        workers: Processes.
        progress: Called with (files done, files in all) now and then, anew for each folder.

    Returns:
        One entry for each of ``classes``, made as ``pc59_val`` and ``pc459_val`` (16-bit TIFF) in
        ``VOCdevkit/VOC2010/annotations_detectron2``.

    Raises:
        FileNotFoundError: The download is not where it should be.
        ValueError: A file of it cannot be used; the message names it.
    """
    folder = root / "VOCdevkit" / "VOC2010"
    source = folder if source is None else source
    merged = source / "trainval_merged.json"
    # All before any: a missing file should not show up after an hour.
    parts: dict[str, tuple[dict[str, Any], Callable[[Any, Path], str]]] = {}
    if 59 in classes:
        images = {f"{image['stem']}.png": image for image in context_images(merged)}
        index_of_id = load_vocabulary("pc59").index_of_id
        convert = functools.partial(_convert_59, index_of_id=index_of_id, file=merged)
        parts["pc59_val"] = images, convert
    if 459 in classes:
        files = {f"{file.stem}.tif": file for file in _files_459(source, merged)}
        number = len(load_vocabulary("pc459"))
        parts["pc459_val"] = files, functools.partial(_convert_459, classes=number)
    return [
        make_folder(folder / "annotations_detectron2" / name, sources, convert, workers, progress)
        for name, (sources, convert) in parts.items()
    ]


def _files_459(folder: Path, merged: Path) -> list[Path]:
    listed = folder / "pascalcontext_val.txt"
    if listed.is_file():
        names = read_names(listed, "")
    else:
        names = [image["stem"] for image in context_images(merged)]
    return find_named(
        [folder / "trainval"],
        names,
        ".mat",
        "the label maps of PASCAL-Context's trainval.tar.gz "
        "(https://cs.stanford.edu/~roozbeh/pascal-context)",
    )


def _convert_59(
    image: Mapping[str, Any], target: Path, *, index_of_id: Mapping[int, int], file: Path
) -> str:
    where = f"{file}: image {image['stem']}"
    labels = np.full((image["height"], image["width"]), _NOTHING, dtype=np.uint8)
    for category, segmentation in image["segments"]:
        mask = decode_segmentation(segmentation, image["height"], image["width"], where)
        if mask.shape != labels.shape:
            raise ValueError(
                f"{where}: a segment has {mask.shape[1]} x {mask.shape[0]} pixels, the image "
                f"{labels.shape[1]} x {labels.shape[0]}"
            )
        # A class beyond the 59 hides what it covers.
        labels[mask] = index_of_id.get(category, _NOTHING)
    save(labels, target, "PNG")
    return WRITTEN


def _convert_459(source: Path, target: Path, *, classes: int) -> str:
    from scipy.io import loadmat, whosmat  # slow to import, and a minimal environment has no scipy

    try:
        # Reading raises whatever the bytes lead to.
        shapes = {name: shape for name, shape, _ in whosmat(source)}  # of the headers alone
        pixels = math.prod(shapes.get("LabelMap", (0,)))
        if pixels > MAX_PIXELS:
            raise ValueError(f"its LabelMap has {pixels} pixels, more than {MAX_PIXELS}")
        values = loadmat(source, variable_names=["LabelMap"]).get("LabelMap")
    except Exception as error:
        raise ValueError(f"{source} cannot be read as a .mat file: {error}") from None
    if values is None or values.ndim != 2:
        raise ValueError(f"{source} holds no map of the name 'LabelMap'")
    if values.size and not (values.min() >= 0 and values.max() <= classes):
        raise ValueError(
            f"{source} holds labels from {values.min()} to {values.max()}, expected 0 to {classes}"
        )
    labels = np.where(values == 0, classes, values.astype(np.int64) - 1)
    save(labels.astype(np.uint16), target, "TIFF")
    return WRITTEN


def context_images(file: Path) -> list[dict[str, Any]]:
    """Reads the validation images of ``trainval_merged.json``.

    Args:
        file: That file.

    Returns:
        One dict per image of phase "val", ordered by name: ``stem`` (its name without suffix),
        ``height`` and ``width`` in pixels, ``segments``: (category id, segmentation) in the file's
        order.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON or lacks a key; the message names file and place.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist; expected PASCAL-Context's merged annotation "
            "trainval_merged.json (https://cs.stanford.edu/~roozbeh/pascal-context); if it lies "
            "elsewhere, name the folder with --source"
        )
    data = read_json(file, "PASCAL-Context annotations")
    require_keys(data, ("images", "annos_segmentation"), str(file))
    images: dict[Any, dict[str, Any]] = {}
    for i, entry in enumerate(data["images"]):
        require_keys(
            entry, ("image_id", "file_name", "height", "width", "phase"), f"{file}: images[{i}]"
        )
        if entry["phase"] == "val":
            images[entry["image_id"]] = {
                "stem": Path(entry["file_name"]).stem,
                "height": entry["height"],
                "width": entry["width"],
                "segments": [],
            }
    if not images:
        raise ValueError(f'{file}: no image has the phase "val"')
    for i, segment in enumerate(data["annos_segmentation"]):
        require_keys(
            segment,
            ("image_id", "category_id", "segmentation"),
            f"{file}: annos_segmentation[{i}]",
        )
        if segment["image_id"] in images:
            images[segment["image_id"]]["segments"].append(
                (segment["category_id"], segment["segmentation"])
            )
    return sorted(images.values(), key=lambda image: image["stem"])
