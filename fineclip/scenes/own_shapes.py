"""A small data set as people have of their own: shapes that the scenes do not show, labelled alone.

Pictures hold the four shapes of `OWN_SHAPES` in any colour among the things of the scenes. Boxes,
masks and label maps are of the four alone: whatever else is in a picture, nobody has labelled.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fineclip.files import replacing_folder
from fineclip.scenes.categories import OWN_CATEGORIES, THING_CATEGORIES
from fineclip.scenes.export import SceneRecord, export_scene, split_description
from fineclip.scenes.shapes import OWN_SHAPES
from fineclip.scenes.world import sample_scene

OWN_DATA = "own_shapes.json"
"""File that says how such a folder was made."""

_VERSION = 1
_SHARE = 3  # times as often as a thing of the scenes: two objects of three are to be labelled
_THINGS = (*OWN_CATEGORIES * _SHARE, *THING_CATEGORIES)
_CLASS_OF = {category.id: OWN_SHAPES.index(category.shape) for category in OWN_CATEGORIES}
_IGNORED = 255
_DESCRIPTION = """\
name: own-shapes
classes: [{classes}]
"""


def make_own_shapes(
    out: str | Path,
    *,
    images: int = 60,
    val_images: int | None = None,
    seed: int = 0,
    size: int = 128,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Writes such a data set, whole or not at all; does nothing if ``out`` already holds it.

    Args:
        out: Folder to write: ``train/`` and ``val/`` (JPEG), ``annotations/`` (COCO instances,
            captions, captions of the boxes, label maps) and ``data.yaml``.
        images: Number of training images.
        val_images: Number of validation images; default: as many.
        seed: Seed of the world, at least 0.
        size: Side of the images in pixels.
        overwrite: Replace another such data set in ``out``.
        progress: Called with (images done, images in all).

    Returns:
        Per split the numbers of images and of boxes by class.

    Raises:
        ValueError: A seed below 0.
        FileExistsError: ``out`` holds something else.
    """
    out = Path(out)
    counts = {"train": images, "val": images if val_images is None else val_images}
    parameters = {"seed": seed, "size": size, "version": _VERSION, **counts}
    if out.is_dir() and any(out.iterdir()):
        made = out / OWN_DATA
        found = json.loads(made.read_text(encoding="utf-8")) if made.is_file() else None
        if found is not None and found["parameters"] == parameters:
            return found["statistics"]
        if found is None or not overwrite:
            hint = "choose another folder" + ("" if found is None else ", or --overwrite")
            raise FileExistsError(f"{out} holds something else; {hint}")
    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    statistics: dict[str, Any] = {}
    with replacing_folder(out) as folder:
        description = _DESCRIPTION.format(classes=", ".join(OWN_SHAPES))
        for split, count in counts.items():
            records = []
            for index in range(count):
                record = export_scene(sample_scene(seed, split, index, _THINGS), size)
                _write_pictures(folder, split, record)
                records.append(record)
                progress(len(records) + (images if split == "val" else 0), sum(counts.values()))
            files = _annotation_files(split, records)
            for name, content in files.items():
                _write_json(folder / "annotations" / name, content)
            labels = Counter(
                a["category_id"] for a in files[f"instances_{split}.json"]["annotations"]
            )
            statistics[split] = {
                "images": count,
                "boxes": {name: labels[i] for i, name in enumerate(OWN_SHAPES, 1)},
            }
            description += split_description(split)
        (folder / "data.yaml").write_text(description, encoding="utf-8")
        _write_json(folder / OWN_DATA, {"parameters": parameters, "statistics": statistics})
    return statistics


def _write_pictures(folder: Path, split: str, record: SceneRecord) -> None:
    semantic = folder / "annotations" / f"semantic_{split}"
    for needed in (folder / split, semantic):
        needed.mkdir(parents=True, exist_ok=True)
    (folder / split / record.image["file_name"]).write_bytes(record.jpeg)
    of_value = np.full(256, _IGNORED, dtype=np.uint8)
    for id_, label in _CLASS_OF.items():
        of_value[id_ - 1] = label
    with Image.open(BytesIO(record.semantic_png)) as image:
        labels = of_value[np.asarray(image)]  # (H, W)
    Image.fromarray(labels).save(semantic / record.panoptic["file_name"])


def _annotation_files(split: str, records: list[SceneRecord]) -> dict[str, Any]:
    images = [record.image for record in records]
    boxes = [
        {**annotation, "category_id": _CLASS_OF[annotation["category_id"]] + 1}
        for record in records
        for annotation in record.annotations
        if annotation["category_id"] in _CLASS_OF
    ]
    texts = {key: text for record in records for key, text in record.region_captions.items()}
    return {
        f"instances_{split}.json": {
            "images": images,
            "annotations": boxes,
            "categories": [{"id": i, "name": name} for i, name in enumerate(OWN_SHAPES, 1)],
        },
        f"captions_{split}.json": {
            "images": images,
            "annotations": [caption for record in records for caption in record.captions],
        },
        f"region_captions_{split}.json": {str(box["id"]): texts[str(box["id"])] for box in boxes},
    }


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")
