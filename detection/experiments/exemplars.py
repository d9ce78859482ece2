"""Classes by their names, by a few crops of them, and by both: AP50 of a trained detector."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from detection.datasets.indices import CocoAnnotations
from detection.evaluation.average_precision import (
    ap50_of_groups,
    ap50_per_category,
    coco_results,
    evaluate_coco,
)
from detection.inference import OpenVocabularyDetector
from fineclip.datasets.description import DataDescription
from fineclip.images import read_image
from fineclip.text import Vocabulary
from fineclip.text.exemplars import Exemplar
from fineclip.visualization import save_png

_SMALLEST = 12  # pixels of the shorter side of a box that is shown as an exemplar
Table = dict[str, dict[str, float]]


def draw_crops(
    description: DataDescription, names: tuple[str, ...], shots: int, seed: int, folder: Path
) -> dict[str, tuple[Exemplar, ...]]:
    """Cuts boxes of some classes out of the training images and writes them as PNG files.

    Args:
        description: The data set.
        names: The classes.
        shots: Crops of each; fewer where there are fewer boxes.
        seed: Which are drawn.
        folder: Where they go.

    Raises:
        ValueError: A class without a box that is large enough.
    """
    files = description.require("train", "annotations")
    index = CocoAnnotations(files.annotations)
    random = np.random.default_rng(seed)
    category_of = {category["name"]: id_ for id_, category in index.cats.items()}
    found: dict[str, tuple[Exemplar, ...]] = {}
    for name in names:
        boxes = [
            entry
            for entry in index.anns.values()
            if entry["category_id"] == category_of.get(name) and min(entry["bbox"][2:]) >= _SMALLEST
        ]
        if not boxes:
            raise ValueError(f"{files.annotations}: no box of {name!r} to show")
        chosen = [boxes[place] for place in random.permutation(len(boxes))[:shots]]
        crops = []
        for entry in chosen:
            x, y, width, height = entry["bbox"]
            image = read_image(files.images / index.imgs[entry["image_id"]]["file_name"])
            crop = image.crop((int(x), int(y), -int(-(x + width) // 1), -int(-(y + height) // 1)))
            file = folder / f"{entry['id']}.png"
            save_png(crop, file)
            crops.append(Exemplar(file))
        found[name] = tuple(crops)
    return found


def compare_exemplars(
    detector: OpenVocabularyDetector,
    description: DataDescription,
    crops: Mapping[str, tuple[Exemplar, ...]],
    among: Vocabulary | None,
    weights: tuple[float, ...],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Table:
    """AP50 of classes by names, by crops, and by both.

    Args:
        detector: A trained detector.
        description: The data set; its validation images are looked through.
        crops: Exemplars of the classes that are given by them.
        among: Words that are looked for as well and compete; None: none.
        weights: Shares of the crops; 0: names alone, 1: crops alone.
        progress: Called with (images done, images in all).

    Returns:
        By row (a weight) percent by column: ``own``, the mean over classes with crops, and
        ``others``, over the other classes of the data set.
    """
    files = description.require(description.evaluation_split, "annotations")
    truth = CocoAnnotations(files.annotations)
    ids = {category["name"]: id_ for id_, category in truth.cats.items()}
    boxed = [c for c in description.vocabulary.categories if c.name in ids]
    own = [c for c in boxed if c.name in crops]
    rest = [c for c in boxed if c.name not in crops]
    rest += [c for c in (among.categories if among else ()) if c.name not in ids]
    table: Table = {}
    done, total = 0, len(weights) * len(truth.imgs)
    for weight in weights:
        shown = [replace(c, exemplars=crops[c.name] if weight else (), id=None) for c in own]
        vocabulary = Vocabulary("own", (*shown, *(replace(c, id=None) for c in rest)))
        detector.look_for(vocabulary, weight)
        predictions: list[dict[str, Any]] = []
        for id_, entry in truth.imgs.items():
            found = detector.detect(read_image(files.images / entry["file_name"]))
            boxes = np.array([item["bbox"] for item in found]).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            predictions.append(
                {
                    "img_id": id_,
                    "bboxes": boxes,
                    "scores": [item["score"] for item in found],
                    "labels": [item["index"] for item in found],
                }
            )
            done += 1
            progress(done, total)
        results = coco_results(predictions, [ids.get(name) for name in vocabulary.names])
        by_id = ap50_per_category(evaluate_coco(truth, results, "bbox", list(ids.values())))
        ap50 = {truth.cats[id_]["name"]: value for id_, value in by_id.items()}
        groups = {"own": [c.name for c in own], "others": [c.name for c in rest]}
        table[f"{weight:g}"] = ap50_of_groups(ap50, groups)
    return table


def format_exemplar_table(tables: list[Table]) -> str:
    """Mean and standard deviation over tables, a line a weight."""
    lines = [f"{'weight of the crops':<22}{'own AP50':>14}{'others':>14}"]
    for row in tables[0]:
        cells = [_spread([table[row][column] for table in tables]) for column in ("own", "others")]
        said = {"0": "0 (names alone)", "1": "1 (crops alone)"}.get(row, row)
        lines.append(f"{said:<22}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if any(np.isnan(values)):
        return "-"
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")
