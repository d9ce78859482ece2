"""Annotation files of the open-vocabulary benchmarks, made from the public ones.

Rules: OV-COCO as in ViLD, OVR-CNN and F-ViT (48 base, 17 novel classes; Bansal et al., ECCV 2018),
OV-LVIS as in ViLD (rare classes are novel). Training files hold no box of a novel class.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from fineclip.annotations import read_boxes
from fineclip.files import write_atomically
from fineclip.text.vocabulary import Vocabulary, load_vocabulary

Report = Callable[[str], None]

OV_COCO_FILES = {
    "train": ("instances_train2017.json", "instances_train2017_base.json"),
    "val": ("instances_val2017.json", "instances_val2017_ov.json"),
}
"""Public file and the one made from it, by split."""

OV_LVIS_FILES = ("lvis_v1_train.json", "lvis_v1_train_base.json")
"""Public file and the one made from it; ``lvis_v1_val.json`` is used as it is."""


def keep_categories(
    data: dict[str, Any], category_ids: Collection[int], *, drop_empty_images: bool
) -> dict[str, Any]:
    """Keeps the annotations of some categories.

    Args:
        data: COCO-format content; not changed.
        category_ids: Categories whose annotations stay, crowds included.
        drop_empty_images: Leave out images that are left without any annotation.

    Returns:
        The content with fewer annotations and images, categories untouched.
    """
    kept = set(category_ids)
    annotations = [a for a in data["annotations"] if a["category_id"] in kept]
    images = data["images"]
    if drop_empty_images:
        annotated = {a["image_id"] for a in annotations}
        images = [image for image in images if image["id"] in annotated]
    return {**data, "images": images, "annotations": annotations}


def prepare_ov_coco(
    annotations_dir: str | Path,
    out: str | Path,
    splits: Sequence[str] = ("train", "val"),
    report: Report = lambda line: None,
) -> list[Path]:
    """Makes the annotation files of OV-COCO.

    Training: annotations of the 48 base classes and the images that have one. Validation: those of
    all 65 classes (4 836 images of val2017). Both list the 65 categories in ascending id, each
    with its ``split``, so labels of both index the same classes.

    Args:
        annotations_dir: Folder with ``instances_train2017.json`` and ``instances_val2017.json``.
        out: Folder to write, made if it is missing; see :data:`OV_COCO_FILES`.
        splits: Which of ``"train"`` and ``"val"`` to make.
        report: Called with a line on each thing done.

    Returns:
        The files written.

    Raises:
        FileNotFoundError: A public file is missing (before anything is written).
        ValueError: An unknown split, or a file that is malformed or not of COCO 2017.
    """
    if unknown := [split for split in splits if split not in OV_COCO_FILES]:
        raise ValueError(f"unknown split {unknown[0]!r}; expected {' or '.join(OV_COCO_FILES)}")
    vocabulary = load_vocabulary("ov_coco")
    ids = vocabulary.required_ids
    base = [ids[index] for index in vocabulary.indices("base")]
    files = [OV_COCO_FILES[split] for split in splits]
    sources = [_existing(Path(annotations_dir) / source) for source, _ in files]
    written = []
    for split, source, (_, target) in zip(splits, sources, files, strict=True):
        data = _read(source, report)
        data["categories"] = _split_categories(data["categories"], vocabulary, source)
        kept = base if split == "train" else [c["id"] for c in data["categories"]]
        written.append(
            _write(Path(out) / target, keep_categories(data, kept, drop_empty_images=True), report)
        )
    return written


def prepare_ov_lvis(
    annotations_dir: str | Path, out: str | Path, report: Report = lambda line: None
) -> list[Path]:
    """Makes the training annotations of OV-LVIS v1: no annotation of a rare category.

    Images and categories all stay (images without a box are skipped when the file is read for
    training); each category gets its ``split``, novel for the rare ones.

    Args:
        annotations_dir: Folder with ``lvis_v1_train.json``.
        out: Folder to write, made if it is missing; see :data:`OV_LVIS_FILES`.
        report: Called with a line on each thing done.

    Returns:
        The files written.

    Raises:
        FileNotFoundError: The public file is missing.
        ValueError: It is malformed, or has no rare category.
    """
    source = _existing(Path(annotations_dir) / OV_LVIS_FILES[0])
    data = _read(source, report, lvis=True)
    base = [c["id"] for c in data["categories"] if c["frequency"] != "r"]
    if len(base) == len(data["categories"]):
        raise ValueError(f"{source}: categories: none has the frequency 'r', so none is novel")
    data["categories"] = [
        {**c, "split": "novel" if c["frequency"] == "r" else "base"} for c in data["categories"]
    ]
    data = keep_categories(data, base, drop_empty_images=False)
    return [_write(Path(out) / OV_LVIS_FILES[1], data, report)]


PREPARATIONS: dict[str, Callable[..., list[Path]]] = {
    "ov-coco": prepare_ov_coco,
    "ov-lvis": prepare_ov_lvis,
}
"""By task of tools/prepare.py."""


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it is one of the public annotation files")
    return path


def _read(path: Path, report: Report, *, lvis: bool = False) -> dict[str, Any]:
    """The mended content of a file; what was mended is told."""
    report(f"reading {path}")
    data, found = read_boxes(path, lvis=lvis)
    for finding in found.findings:
        if finding.kind != "noted":
            report(str(finding))
    return data


def _split_categories(
    categories: Sequence[dict[str, Any]], vocabulary: Vocabulary, source: Path
) -> list[dict[str, Any]]:
    """The file's own entries of the vocabulary's categories, in its order, with the split."""
    by_id = {c["id"]: c for c in categories}
    result = []
    for category in vocabulary.categories:
        entry = by_id.get(category.id)
        if entry is None or entry["name"] != category.name:
            found = "is missing" if entry is None else f"is {entry['name']!r}"
            raise ValueError(
                f"{source}: categories: id {category.id} {found}, expected {category.name!r}; is "
                "this an instances file of COCO 2017?"
            )
        result.append({**entry, "split": category.split})
    return result


def _write(path: Path, data: dict[str, Any], report: Report) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(data, separators=(",", ":")))
    report(f"wrote {path}: {len(data['images'])} images, {len(data['annotations'])} annotations")
    return path
