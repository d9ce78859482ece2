"""Writes a complete data set of scenes to a folder, all or nothing."""

from __future__ import annotations

import functools
import json
import multiprocessing
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fineclip.files import temporary_beside
from fineclip.scenes.captioner import CAPTION_ERRORS, CaptionerRates
from fineclip.scenes.categories import THING_CATEGORIES
from fineclip.scenes.export import (
    MAX_IMAGES,
    SceneRecord,
    annotation_files,
    description,
    export_scene,
    vocabulary,
)
from fineclip.scenes.render import MIN_SIZE
from fineclip.scenes.twins import DIFFERENCES, validation_scene
from fineclip.scenes.world import sample_scene

VERSION = 4
"""Version of the world: raised with every change of any file it writes."""

MANIFEST = "scenes.json"
"""File that says how a folder was made, and that it is complete."""

_MAX_SIZE = 4096
_ENTRIES = (
    "train",
    "val",
    "annotations",
    "vocabulary.json",
    "data.yaml",
)  # what a data set consists of
_CHUNK = 16  # scenes per task of a worker
_CAPTIONER = CaptionerRates()

Progress = Callable[[int, int], None]


def _check_arguments(
    images: int, val_images: int, seed: int, size: int, twins: float, workers: int
) -> None:
    for name, value, low, high in (
        ("images", images, 1, MAX_IMAGES),
        ("val_images", val_images, 1, MAX_IMAGES),
        ("seed", seed, 0, 2**63 - 1),
        ("size", size, MIN_SIZE, _MAX_SIZE),
        ("twins", twins, 0, 1),
        ("workers", workers, 1, 1024),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} must be from {low} to {high}, got {value}")


def _read_manifest(out: Path) -> dict[str, Any] | None:
    """The manifest of ``out``, or None if the folder has none that can be read."""
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    known = isinstance(manifest, dict) and {"parameters", "complete", "statistics"} <= set(manifest)
    return manifest if known else None


def _missing_files(out: Path, parameters: dict[str, Any]) -> str | None:
    """What is missing from a folder that says it is complete; None if nothing is."""
    folders = {}
    for split, count in (("train", parameters["images"]), ("val", parameters["val_images"])):
        folders[out / split] = count
        folders[out / "annotations" / f"panoptic_{split}"] = count
        folders[out / "annotations" / f"semantic_{split}"] = count
    for folder, count in folders.items():
        found = sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
        if found < count:
            return f"{folder} holds {found} of {count} files"
    files = [out / "vocabulary.json", out / "data.yaml"]
    for split in ("train", "val"):
        files += [out / "annotations" / name for name in annotation_files(split, [])]
    missing = [str(file) for file in files if not file.is_file()]
    return f"{missing[0]} is missing" if missing else None


def _refuse_or_reuse(
    out: Path, parameters: dict[str, Any], overwrite: bool
) -> dict[str, Any] | None:
    """Looks at an existing ``out``: its statistics if it can stay, None if it must be written."""
    if not out.exists():
        return None
    if not out.is_dir():
        raise FileExistsError(f"{out} is a file, not a folder; choose another place")
    manifest = _read_manifest(out)
    if manifest is None:
        if any(out.iterdir()):
            # Even with overwrite: these files may be somebody's only copy.
            raise FileExistsError(
                f"{out} holds files that are no scenes (no {MANIFEST}); choose another folder"
            )
        return None
    if overwrite or not manifest["complete"]:
        return None
    old = manifest["parameters"]
    if old != parameters:
        made = ", ".join(f"{k}={v}" for k, v in old.items() if v != parameters.get(k))
        asked = ", ".join(f"{k}={v}" for k, v in parameters.items() if v != old.get(k))
        raise FileExistsError(
            f"{out} holds other scenes ({made}) than asked for ({asked}); "
            "choose another folder, or overwrite it (--overwrite)"
        )
    problem = _missing_files(out, parameters)
    if problem:
        raise FileExistsError(f"{problem}; make the scenes again with --overwrite")
    return manifest["statistics"]


def _draw(
    split: str, index: int, *, seed: int, size: int, captioner: CaptionerRates, twins: float
) -> SceneRecord:
    """One scene; a captioner describes the regions of training, twins are for validation."""
    if split == "val":
        scene, difference = validation_scene(seed, index, twins)
        return export_scene(scene, size, difference=difference)
    return export_scene(sample_scene(seed, split, index), size, captioner=captioner)


def _export_chunk(
    chunk: range, *, draw: Callable[[str, int], SceneRecord], split: str, out: Path
) -> list[SceneRecord]:
    """Writes the files of some scenes; returns their records without the encoded images."""
    records = []
    for index in chunk:
        record = draw(split, index)
        png = record.panoptic["file_name"]
        (out / split / record.image["file_name"]).write_bytes(record.jpeg)
        (out / "annotations" / f"panoptic_{split}" / png).write_bytes(record.panoptic_png)
        (out / "annotations" / f"semantic_{split}" / png).write_bytes(record.semantic_png)
        records.append(record._replace(jpeg=b"", panoptic_png=b"", semantic_png=b""))
    return records


def _map(function: Callable, chunks: list[range], workers: int) -> Iterator[list[SceneRecord]]:
    if workers == 1 or len(chunks) == 1:
        yield from map(function, chunks)
        return
    # The platform's own start method, as in torch's DataLoader; the work itself is NumPy only.
    # A parent's handler of SIGTERM, by which a pool ends its workers, is not theirs to run.
    default = (signal.SIGTERM, signal.SIG_DFL)
    with multiprocessing.Pool(min(workers, len(chunks)), signal.signal, default) as pool:
        yield from pool.imap(function, chunks)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


def _statistics(records: dict[str, list[SceneRecord]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    names = {c.id: c.name for c in THING_CATEGORIES}
    for split, items in records.items():
        objects = Counter(len(r.annotations) for r in items)
        categories = Counter(names[a["category_id"]] for r in items for a in r.annotations)
        captions = [c["caption"] for r in items for c in r.captions]
        words = [len(caption.split()) for caption in captions]
        result[split] = {
            "images": len(items),
            "instances": sum(categories.values()),
            "images_by_num_objects": {str(k): objects[k] for k in sorted(objects)},
            "instances_by_category": {name: categories[name] for name in names.values()},
            "captions": len(captions),
            "unique_captions": len(set(captions)),
            "caption_words_mean": round(sum(words) / len(words), 2),
            "caption_words_max": max(words),
        }
    errors = Counter(error for r in records["train"] for error in r.region_errors)
    result["train"]["region_captions_by_error"] = {name: errors[name] for name in CAPTION_ERRORS}
    kinds = Counter(r.difference for r in records["val"])
    result["val"]["images_by_difference"] = {kind: kinds[kind] for kind in DIFFERENCES}
    return result


def _install(temporary: Path, out: Path, manifest: dict[str, Any]) -> None:
    """Moves a finished data set to its place."""
    if not out.exists():
        _write_json(temporary / MANIFEST, manifest)
        temporary.replace(out)
        return
    # The manifest says "incomplete" until everything is in place, so that an interrupted move is
    # recognised; files of other origin (caches, notes) stay where they are.
    _write_json(temporary / MANIFEST, {**manifest, "complete": False})
    (temporary / MANIFEST).replace(out / MANIFEST)
    for entry in _ENTRIES:
        old = out / entry
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
        (temporary / entry).replace(old)
    _write_json(temporary / MANIFEST, manifest)
    (temporary / MANIFEST).replace(out / MANIFEST)


def make_scenes(
    out: str | Path,
    *,
    images: int = 3000,
    val_images: int | None = None,
    seed: int = 0,
    size: int = 128,
    captioner: Mapping[str, float] | CaptionerRates | None = _CAPTIONER,
    twins: float = 0.5,
    workers: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes a data set of scenes; does nothing if ``out`` already holds exactly that data set.

    Everything is written to a temporary folder beside ``out`` first, so that an interruption
    leaves no half of a data set. Image k of a split is the same whatever the other numbers are;
    the captioner changes captions of training regions alone, and twins validation alone.

    Args:
        out: Folder to write: ``train/`` and ``val/`` (JPEG), ``annotations/`` (COCO instances,
            proposals, captions, region captions, panoptic, semantic, LVIS), ``vocabulary.json``,
            ``data.yaml`` and the manifest ``scenes.json``.
        images: Number of training images.
        val_images: Number of validation images; default: a sixth of ``images``, at least 1.
        seed: Seed of the world, at least 0.
        size: Side of the images in pixels.
        captioner: How often the captions of training regions err: rates by name beside the
            defaults of `CaptionerRates`, or all of them. None: they are true, as those of
            validation always are.
        twins: Share of the validation images that are pairs of near-twins: 2k and 2k + 1, counted
            from 0, differ in one thing, and no caption of one is true of the other.
        workers: Number of processes. Where processes start as fresh interpreters (macOS, Windows,
            Python 3.14), more than 1 needs the usual ``if __name__ == "__main__":`` guard.
        overwrite: Replace other scenes in ``out``. A folder with anything else is never touched.
        progress: Called with (images done, images in all) now and then.

    Returns:
        Statistics per split (counts of images, instances, captions; also in the manifest).

    Raises:
        ValueError: A number is out of range, or a rate is unknown.
        FileExistsError: ``out`` holds something else.
    """
    out = Path(out).resolve()
    val_images = max(1, images // 6) if val_images is None else val_images
    _check_arguments(images, val_images, seed, size, twins, workers)
    if not isinstance(captioner, CaptionerRates):
        captioner = CaptionerRates.from_options(captioner)
    parameters = {
        "images": images,
        "val_images": val_images,
        "seed": seed,
        "size": size,
        "captioner": asdict(captioner),
        "twins": float(twins),
        "version": VERSION,
    }
    statistics = _refuse_or_reuse(out, parameters, overwrite)
    if statistics is not None:
        return statistics

    temporary = temporary_beside(out)
    temporary.mkdir(parents=True)
    try:
        records: dict[str, list[SceneRecord]] = {}
        done, total = 0, images + val_images
        for split, count in (("train", images), ("val", val_images)):
            for folder in ("panoptic", "semantic"):
                (temporary / "annotations" / f"{folder}_{split}").mkdir(parents=True)
            (temporary / split).mkdir()
            chunks = [range(i, min(i + _CHUNK, count)) for i in range(0, count, _CHUNK)]
            draw = functools.partial(_draw, seed=seed, size=size, captioner=captioner, twins=twins)
            export = functools.partial(_export_chunk, draw=draw, split=split, out=temporary)
            records[split] = []
            for chunk in _map(export, chunks, workers):
                records[split] += chunk
                done += len(chunk)
                if progress is not None:
                    progress(done, total)
            for name, content in annotation_files(split, records[split]).items():
                _write_json(temporary / "annotations" / name, content)
        _write_json(temporary / "vocabulary.json", vocabulary())
        (temporary / "data.yaml").write_text(description(), encoding="utf-8")
        statistics = _statistics(records)
        manifest = {"parameters": parameters, "complete": True, "statistics": statistics}
        _install(temporary, out, manifest)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return statistics
