"""Finding the images of a folder and their label maps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fineclip.images import IMAGE_SUFFIXES

_SHOWN = 3


def list_pairs(
    image_root: Path,
    label_root: Path,
    *,
    image_suffix: str | None = ".jpg",
    label_suffix: str = ".png",
    complete: bool = True,
    name: str = "data set",
    advice: str = "",
) -> list[dict[str, Any]]:
    """Pairs images with label maps of the same name.

    Args:
        image_root: Folder of images.
        label_root: Folder of label maps.
        image_suffix: Of the image files; None: any that is read, one image for a stem.
        label_suffix: Of the label maps.
        complete: Every image must have a label map. False: images without one are left out.
        name: What messages call the data set.
        advice: How to get the files, for messages.

    Returns:
        One dict per label map in the order of names, with ``file_name`` and ``sem_seg_file_name``.

    Raises:
        FileNotFoundError: A folder is missing or empty, or a file lacks its partner, or shares it;
            the message names them.
    """
    images = _files(image_root, image_suffix, "images", name, advice)
    labels = _files(label_root, label_suffix, "label maps", name, advice)
    if missing := sorted(labels.keys() - images.keys()):
        raise FileNotFoundError(
            f"{name}: {image_root} lacks the images of {len(missing)} label maps in {label_root}: "
            f"{_shown(missing, image_suffix)}{advice}"
        )
    if complete and (missing := sorted(images.keys() - labels.keys())):
        raise FileNotFoundError(
            f"{name}: {label_root} lacks the label maps of {len(missing)} images in {image_root}: "
            f"{_shown(missing, label_suffix)}{advice}"
        )
    return [
        {"file_name": str(images[stem]), "sem_seg_file_name": str(labels[stem])}
        for stem in sorted(labels)
    ]


def _files(folder: Path, suffix: str | None, what: str, name: str, advice: str) -> dict[str, Path]:
    """Files of a folder by their names without the suffix."""
    if not folder.is_dir():
        problem = "does not exist"
    else:
        files: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            stem = _stem(path, suffix)
            if stem is None:
                continue
            if stem in files:
                raise FileNotFoundError(
                    f"{name}: {files[stem]} and {path} share the label map of {stem!r}: leave one"
                )
            files[stem] = path
        if files:
            return files
        problem = "holds none"
    kind = "images of any format" if suffix is None else f"*{suffix}"
    raise FileNotFoundError(
        f"{name}: folder {folder} should hold the {what} ({kind}), but {problem}{advice}"
    )


def _stem(path: Path, suffix: str | None) -> str | None:
    """A file's name without the suffix; None where it has another."""
    if path.name.startswith("."):
        return None
    if suffix is None:
        return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else None
    return path.name.removesuffix(suffix) if path.name.endswith(suffix) else None


def _shown(stems: Iterable[str], suffix: str | None) -> str:
    stems = list(stems)
    shown = ", ".join(stem + (suffix or ".*") for stem in stems[:_SHOWN])
    return f"{shown}, ..." if len(stems) > _SHOWN else shown
