"""Predictions of boxes that an evaluation keeps: per image what is true and what was said."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fineclip.files import read_json, write_atomically

_FORMAT, _VERSION = "fineclip-predictions", 1
_HEAD = 256  # bytes in which the format is named


@dataclass(frozen=True)
class PredictedRegion:
    """A box with the category that it has and the one that a model gives it.

    Attributes:
        box: xywh in pixels of the original image.
        true: Index of its category; None: nothing is annotated there.
        predicted: Index of the model's; None: it was not found, or has no answer.
        score: What the model gives the predicted category; None without one.
    """

    box: tuple[float, float, float, float]
    true: int | None
    predicted: int | None
    score: float | None

    @property
    def right(self) -> bool:
        """Whether the two are one."""
        return self.true is not None and self.true == self.predicted


@dataclass(frozen=True)
class Predictions:
    """What an evaluation has kept.

    Attributes:
        image_root: Folder of the images; written as an absolute path.
        categories: Their names.
        images: Regions by file name of the image.
    """

    image_root: str
    categories: tuple[str, ...]
    images: Mapping[str, Sequence[PredictedRegion]]


def write_predictions(path: str | Path, predictions: Predictions) -> None:
    """Writes predictions as JSON.

    Raises:
        OSError: The folder does not exist or cannot be written to.
    """
    content = {
        "format": _FORMAT,
        "version": _VERSION,
        "image_root": str(Path(predictions.image_root).absolute()),
        "categories": list(predictions.categories),
        "images": [
            {"file": file, "regions": [_as_entry(region) for region in regions]}
            for file, regions in predictions.images.items()
        ],
    }
    write_atomically(path, json.dumps(content) + "\n")


def is_predictions(path: str | Path) -> bool:
    """Whether a file says that it holds predictions."""
    try:
        with Path(path).open("rb") as file:
            return f'"{_FORMAT}"'.encode() in file.read(_HEAD)
    except OSError:
        return False


def read_predictions(path: str | Path) -> Predictions:
    """Reads what :func:`write_predictions` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, or malformed.
    """
    content = read_json(path, "predictions")
    try:
        if content["format"] != _FORMAT or content["version"] != _VERSION:
            raise ValueError("its format is another")
        names = tuple(str(name) for name in content["categories"])
        images = {
            str(image["file"]): [_as_region(entry, len(names)) for entry in image["regions"]]
            for image in content["images"]
        }
        return Predictions(str(content["image_root"]), names, images)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"predictions: {path} is malformed: {reason}") from None


def _as_entry(region: PredictedRegion) -> dict[str, Any]:
    return {
        "box": [round(float(value), 2) for value in region.box],
        "true": region.true,
        "predicted": region.predicted,
        "score": None if region.score is None else round(float(region.score), 4),
    }


def _as_region(entry: Mapping[str, Any], count: int) -> PredictedRegion:
    x, y, width, height = (float(value) for value in entry["box"])
    indices: Iterable[Any] = (entry["true"], entry["predicted"])
    for index in indices:
        if index is not None and not (isinstance(index, int) and 0 <= index < count):
            raise ValueError(f"{index!r} is none of its {count} categories")
    score = entry["score"]
    return PredictedRegion(
        (x, y, width, height),
        entry["true"],
        entry["predicted"],
        None if score is None else float(score),
    )
