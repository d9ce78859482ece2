"""Images per second and core: this package's loading against another way."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, TypedDict

import torch
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

from fineclip.annotations import read_boxes
from fineclip.datasets.image_reader import ImageReader
from fineclip.datasets.region_source import AnnotationFiles
from fineclip.datasets.region_text import RegionTextDataset
from fineclip.datasets.region_text_batch import collate_region_text
from fineclip.datasets.regions import BoxRegions
from fineclip.experiments.measuring import load_yardstick
from fineclip.models.preprocessor import CLIPPreprocessor

REFERENCE = "reference"


class PathResult(TypedDict):
    """One way to load.

    Attributes:
        path: "reference", "pil" or "tensor".
        images_per_second_per_core: Median over the rounds.
        seconds_per_image: CPU time of each round, until the batch is collated.
        speedup: Median over the rounds of the reference's time by this path's in the same round.
        normalized_seconds_per_image: The same, until its pixels are normalised float32 as well.
        normalized_speedup: Of these times.
    """

    path: str
    images_per_second_per_core: float
    seconds_per_image: list[float]
    speedup: float
    normalized_seconds_per_image: list[float]
    normalized_speedup: float


class LoadingResult(TypedDict):
    """What :func:`measure_loading` returns.

    Attributes:
        images: Number of different images.
        boxes: Boxes of each.
        size: Side of the image view and of the crops in pixels.
        rounds: Times each path went through all images.
        paths: The paths.
    """

    images: int
    boxes: int
    size: int
    rounds: int
    paths: list[PathResult]


def measure_loading(
    image_root: str | Path,
    annotations: str | Path,
    *,
    yardstick: str | Path,
    boxes: int = 10,
    captions: str | Path | None = None,
    tokenizer: str = "ViT-B-16",
    size: int = 224,
    interpolation: str = "bilinear",
    batch_size: int = 10,
    max_images: int | None = None,
    rounds: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> LoadingResult:
    """Times three ways to make the same training batches, in this process and one thread.

    Each image gets exactly ``boxes`` of its annotated boxes, repeated as needed; images without a
    box are left out. Time is the processor time of this process, so that other work on the machine
    counts little, and paths take turns within each round. A first round, in which files and
    tokens are cached, does not count.

    The reference path ends with normalised float32 pixels; the others with uint8, which the
    pretrainer normalises on its device. So these are timed once more with
    :class:`fineclip.models.CLIPPreprocessor` on the CPU, which is what they cost there.

    Args:
        image_root: Folder of the images.
        annotations: COCO instances or proposals JSON. Names of categories are the boxes' captions.
        yardstick: File with the ``PillowPerBoxReader`` of the reference path.
        boxes: Boxes per image.
        captions: COCO captions JSON; without it there are no captions of images.
        tokenizer: Model whose tokenizer is taken.
        size: Side of the image view and of the crops in pixels.
        interpolation: "bilinear" or "bicubic".
        batch_size: Images that are collated at a time.
        max_images: Use this many images, the first with a box; None: all.
        rounds: Times each path goes through all images.
        progress: Called with the number of passes done and in all.

    Returns:
        The times, as plain values for JSON; the first path is the reference.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: A malformed file, no image with a box, or a number below 1.
    """
    for name, value in (("boxes", boxes), ("rounds", rounds), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    reference = load_yardstick(yardstick, REFERENCE).PillowPerBoxReader
    with tempfile.TemporaryDirectory() as folder, _one_thread():
        chosen = Path(folder) / "annotations.json"
        data = _with_boxes(annotations, boxes, max_images)
        chosen.write_text(json.dumps(data))
        named = {category["id"] for category in data["categories"]}
        fields = ["boxes", "crops"]
        fields += ["texts"] if captions is not None else []
        if all(box.get("category_id") in named for box in data["annotations"]):
            fields.append("region_texts")
        options: dict[str, Any] = {
            "source": AnnotationFiles(image_root, chosen, captions=captions),
            "tokenizer": tokenizer,
            "fields": fields,
            "regions": BoxRegions(max_boxes=boxes, min_area=0, max_area=float("inf")),
        }
        transform = {"size": size, "interpolation": interpolation}
        readers = {
            REFERENCE: reference(transform=transform),
            "pil": ImageReader(transform=transform, backend="pil"),
            "tensor": ImageReader(transform=transform, backend="tensor"),
        }
        datasets = {
            name: RegionTextDataset(images=reader, **options) for name, reader in readers.items()
        }
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in datasets}
        total = (rounds + 1) * len(datasets)
        for number in range(rounds + 1):
            for place, (name, dataset) in enumerate(datasets.items()):
                seconds[name].append(_seconds_per_image(dataset, number, batch_size))
                if progress is not None:
                    progress(number * len(datasets) + place + 1, total)
    paths: list[PathResult] = []
    _, *base = seconds[REFERENCE]
    for name, (_, *times) in seconds.items():
        loaded, normalized = map(list, zip(*times, strict=True))
        paths.append(
            {
                "path": name,
                "images_per_second_per_core": 1 / median(loaded),
                "seconds_per_image": loaded,
                "speedup": _speedup([time for time, _ in base], loaded),
                "normalized_seconds_per_image": normalized,
                "normalized_speedup": _speedup([time for _, time in base], normalized),
            }
        )
    return {
        "images": len(datasets[REFERENCE]),
        "boxes": boxes,
        "size": size,
        "rounds": rounds,
        "paths": paths,
    }


def format_loading(result: LoadingResult) -> str:
    """The result as a table."""
    lines = [
        f"{result['images']} images, {result['boxes']} boxes each, {result['size']} pixels, "
        f"median of {result['rounds']} rounds, one thread",
        f"{'path':<12}{'images/s per core':>20}{'ms to batch':>14}{'speedup':>10}"
        f"{'ms to normalised':>19}{'speedup':>10}",
    ]
    for path in result["paths"]:
        rate = path["images_per_second_per_core"]
        whole = 1000 * median(path["normalized_seconds_per_image"])
        lines.append(
            f"{path['path']:<12}{rate:>20.1f}{1000 / rate:>14.2f}{path['speedup']:>9.2f}x"
            f"{whole:>19.2f}{path['normalized_speedup']:>9.2f}x"
        )
    return "\n".join(lines)


def _speedup(before: list[float], after: list[float]) -> float:
    return median(a / b for a, b in zip(before, after, strict=True))


def _with_boxes(annotations: str | Path, boxes: int, max_images: int | None) -> dict[str, Any]:
    """The annotations with exactly ``boxes`` boxes for each image that has any."""
    data, _ = read_boxes(annotations, labelled=False)
    own: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in data["images"]}
    for annotation in data["annotations"]:
        if not annotation["iscrowd"] and min(annotation["bbox"][2:]) >= 1:
            own[annotation["image_id"]].append(annotation)
    images = [image for image in data["images"] if own[image["id"]]][:max_images]
    if not images:
        raise ValueError(f"annotations: {annotations}: no image has a box")
    return {
        "images": images,
        "annotations": [box for image in images for box in islice(cycle(own[image["id"]]), boxes)],
        "categories": data.get("categories", []),
    }


def _seconds_per_image(
    dataset: RegionTextDataset, epoch: int, batch_size: int
) -> tuple[float, float]:
    """CPU seconds until batches are collated, and until their pixels are normalised as well."""
    normalize = CLIPPreprocessor(mean=OPENAI_DATASET_MEAN, std=OPENAI_DATASET_STD)
    loaded = normalized = 0.0
    for first in range(0, len(dataset), batch_size):
        last = min(first + batch_size, len(dataset))
        start = time.process_time()
        batch = collate_region_text([dataset[epoch, index] for index in range(first, last)])
        loaded += time.process_time() - start
        normalize(batch)
        normalized += time.process_time() - start
    return loaded / len(dataset), normalized / len(dataset)


@contextmanager
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
