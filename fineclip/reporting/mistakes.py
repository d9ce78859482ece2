"""Which categories a model takes for each other, and the pictures it answers best and worst on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from fineclip.annotations.predictions import PredictedRegion, Predictions, read_predictions
from fineclip.images import UnusableImageError, read_image
from fineclip.paths import inside
from fineclip.reporting.page import (
    Cell,
    Mark,
    cross_table,
    grid,
    heading,
    html_table,
    marked_picture,
    paragraph,
)
from fineclip.reporting.sources import Run, finite_number

_CATEGORIES = 12  # of the heat map
_PAIRS = 15
_CLASSES = 10  # of each end of a ranking
_BOXES, _EXTRAS = 12, 3  # drawn into a picture: what is annotated, and what is not
_SIDE = 360  # longer side of a picture, in pixels


def mistakes(runs: Sequence[Run], pictures: int) -> Iterator[str]:
    """Of each file of predictions, and of what segmentation says of its classes.

    Args:
        runs: Some of which have such.
        pictures: How many of the best, and of the worst.
    """
    told = False
    for run in runs:
        for file in run.predictions:
            told = True
            yield heading(
                run.name if run.name.endswith(file.name) else f"{run.name}: {file.name}", 3
            )
            try:
                found = read_predictions(file)
            except (ValueError, OSError) as error:
                yield paragraph(str(error), "warning")
                continue
            yield _confusion(found)
            yield _best_and_worst(found, pictures)
    for dataset in dict.fromkeys(dataset for run in runs for dataset in run.per_class):
        told = True
        scores = {run.name: run.per_class[dataset] for run in runs if dataset in run.per_class}
        yield _classes_by_iou(dataset, scores)
        for run in runs:
            yield _confused_pixels(f"{run.name}, {dataset}", run.confused.get(dataset, ()))
    if not told:
        yield paragraph(
            "No predictions are saved. --save-predictions of evaluate_clip.py and test.py writes "
            "them, and a file in the work dir is shown here."
        )


def _classes_by_iou(dataset: str, found: Mapping[str, Mapping[str, float]]) -> str:
    """The classes that are found best and worst, by the highest IoU that a run has."""
    highest: dict[str, float] = {}
    for scores in found.values():
        for label, value in scores.items():
            highest[label] = max(value, highest.get(label, value))
    ranked = sorted(highest, key=lambda label: (-highest[label], label))
    chosen = ranked
    caption = f"{dataset}: IoU of classes, percent"
    if len(ranked) > 2 * _CLASSES:
        chosen = [*ranked[:_CLASSES], *ranked[-_CLASSES:]]
        caption += f", the {_CLASSES} highest and the {_CLASSES} lowest of {len(ranked)}"
    runs = list(found)

    def entry(row: int, column: int) -> Cell:
        value = found[runs[column]].get(chosen[row])
        return Cell("-" if value is None else f"{value:.1f}")

    return cross_table(caption, chosen, runs, entry)


def _confused_pixels(name: str, pairs: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (str(pair.get("true")), [_said(str(pair.get("predicted"))), Cell(f"{share:.1f}")])
        for pair in pairs[:_PAIRS]
        if (share := finite_number(pair.get("share"))) is not None
    ]
    head = ["true", "predicted", "percent of the true pixels"]
    return html_table(f"{name}: most confused classes", head, rows) if rows else ""


def _said(name: str) -> Cell:
    return Cell(name, number=False)


def _confusion(predictions: Predictions) -> str:
    """A heat map of the most confused categories, and the pairs by how often they occur."""
    names = predictions.categories
    regions = [region for regions in predictions.images.values() for region in regions]
    counts = Counter((r.true, r.predicted) for r in regions if r.true is not None)
    of_class = Counter(r.true for r in regions if r.true is not None)
    wrong = {(true, said): n for (true, said), n in counts.items() if said not in (None, true)}
    ranked = [
        (true, said)
        for true, said in sorted(wrong, key=lambda pair: (-wrong[pair], pair))
        if true is not None and said is not None
    ]
    if not ranked:
        return paragraph("No category was taken for another.")
    chosen = list(dict.fromkeys(index for pair in ranked for index in pair))[:_CATEGORIES]

    def share(true: int, predicted: int | None) -> Cell:
        part = counts[true, predicted] / max(of_class[true], 1)
        shade = part if true != predicted else 0.0
        return Cell(f"{100 * part:.0f}" if part else "", shade=shade)

    heat = html_table(
        "Confusion of the most confused categories: percent of the regions of a row's category "
        "that were given a column's",
        ["true \\ predicted", *(names[index] for index in chosen), "not found", "regions"],
        (
            (names[t], [*(share(t, other) for other in (*chosen, None)), Cell(str(of_class[t]))])
            for t in chosen
        ),
    )
    pairs = html_table(
        "The most frequent confusions",
        ["true", "predicted", "regions", "percent of the true ones"],
        (
            (names[t], [_said(names[said]), Cell(str(wrong[t, said])), share(t, said)])
            for t, said in ranked[:_PAIRS]
        ),
    )
    return heat + pairs


def _best_and_worst(predictions: Predictions, number: int) -> str:
    """Pictures with boxes: those with the smallest and the largest shares of right regions."""
    shares = {}
    for file, regions in predictions.images.items():
        annotated = sum(region.true is not None for region in regions)
        if annotated:
            shares[file] = (sum(region.right for region in regions) / annotated, annotated)
    worst = sorted(shares, key=lambda file: (shares[file][0], -shares[file][1], file))
    worst = [file for file in worst if shares[file][0] < 1][:number]
    best = sorted(shares, key=lambda file: (-shares[file][0], -shares[file][1], file))
    best = [file for file in best if shares[file][0] > 0 and file not in worst][:number]
    if not worst + best:
        return ""
    return paragraph(
        "Boxes are green where the category is right and red where it is not; dashed ones match "
        "no annotated box that was free."
    ) + "".join(
        heading(title, 4) + grid(_thumbnail(predictions, file) for file in files)
        for title, files in (("Worst pictures", worst), ("Best pictures", best))
        if files
    )


def _thumbnail(predictions: Predictions, file: str) -> str:
    regions = predictions.images[file]
    right = sum(region.right for region in regions)
    annotated = sum(region.true is not None for region in regions)
    caption = f"{file}: {right} of {annotated} right"
    if annotated < len(regions):
        caption += f", {len(regions) - annotated} more match none"
    try:
        image = read_image(inside(Path(predictions.image_root), file)).convert("RGB")
    except (UnusableImageError, OSError, ValueError):
        return f"<figure>{paragraph(f'{caption}. The picture cannot be read any more.')}</figure>"
    width, height = image.size
    image.thumbnail((_SIDE, _SIDE))
    content = BytesIO()
    image.save(content, format="JPEG", quality=80)
    shown = sorted((r for r in regions if r.true is not None), key=lambda r: r.right)[:_BOXES]
    extras = (region for region in regions if region.true is None)
    shown += sorted(extras, key=lambda region: -(region.score or 0))[:_EXTRAS]
    names = predictions.categories
    marks = [Mark(region.box, _label(region, names), _kind(region)) for region in shown]
    return marked_picture(content.getvalue(), "image/jpeg", (width, height), marks, caption)


def _kind(region: PredictedRegion) -> str:
    return "extra" if region.true is None else "right" if region.right else "wrong"


def _label(region: PredictedRegion, names: Sequence[str]) -> str:
    score = "" if region.score is None else f" {region.score:.2f}"
    said = "not found" if region.predicted is None else names[region.predicted] + score
    if region.right:
        return said
    return f"{said}, matches none" if region.true is None else f"{said}, is {names[region.true]}"
