"""Average precision by pycocotools and lvis, and its means over base and novel classes.

Letters: T IoU thresholds, R recall points, K categories, A area ranges, M detection limits.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any, Literal

import lvis.eval
import numpy as np
from lvis import LVIS, LVISEval, LVISResults
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

IoUType = Literal["bbox", "segm"]

_NO_CATEGORY = -1  # of no annotation file


def coco_results(
    predictions: Sequence[Mapping[str, Any]],
    category_ids: Sequence[int | None],
    *,
    masks: bool = False,
) -> list[dict[str, Any]]:
    """Detections in COCO's results format.

    Args:
        predictions: Per image ``img_id``, ``bboxes`` (n, 4) xyxy in pixels of the original image,
            ``scores`` (n,), ``labels`` (n,); with masks also ``masks``, n compressed RLEs, and,
            where a detector scores masks apart, ``mask_scores`` (n,).
        category_ids: Annotation id of each label; detections of a label with None are left out.
        masks: Add ``segmentation`` and use the scores of masks.

    Returns:
        One dict per detection: ``image_id``, ``category_id``, ``bbox`` (xywh in pixels),
        ``score`` and, with masks, ``segmentation``.
    """
    results = []
    for prediction in predictions:
        boxes = np.asarray(prediction["bboxes"], dtype=np.float64).reshape(-1, 4)
        boxes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
        scores = prediction["scores"]
        if masks:
            scores = prediction.get("mask_scores", scores)
        for index, label in enumerate(prediction["labels"]):
            category_id = category_ids[int(label)]
            if category_id is None:
                continue
            result = {
                "image_id": prediction["img_id"],
                "category_id": category_id,
                "bbox": boxes[index],
                "score": float(scores[index]),
            }
            if masks:
                rle = prediction["masks"][index]
                counts = rle["counts"]
                result["segmentation"] = {
                    "size": list(rle["size"]),
                    "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
                }
            results.append(result)
    return results


def evaluate_coco(
    ground_truth: COCO,
    results: Sequence[Mapping[str, Any]],
    iou_type: IoUType,
    category_ids: Collection[int],
    max_detections: tuple[int, int, int] = (100, 300, 1000),
    left_out: Collection[int] = (),
) -> COCOeval:
    """Runs pycocotools over the images of the ground truth.

    Args:
        ground_truth: The annotations.
        results: Detections from :func:`coco_results`; may be empty. Not changed.
        iou_type: What is compared.
        category_ids: The categories that count.
        max_detections: Detections per image and category: overall AP uses the first number, as
            pycocotools fixes it, everything else the last.
        left_out: Ids of images that do not count.

    Returns:
        The finished evaluation: ``stats``, ``eval["precision"]`` (T, R, K, A, M) with categories
        in ascending order of ids (``params.catIds``).
    """
    # Of a result with a box, pycocotools takes the box's area; masks have their own.
    other = "bbox" if iou_type == "segm" else "segmentation"
    detections = _some(results, ground_truth.getImgIds(), without=other)
    with redirect_stdout(StringIO()):  # it prints every step and its own table
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(detections), iou_type)
        evaluation.params.catIds = list(category_ids)
        evaluation.params.imgIds = _others(evaluation.params.imgIds, left_out)
        evaluation.params.maxDets = list(max_detections)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def evaluate_lvis(
    ground_truth: LVIS,
    results: Sequence[Mapping[str, Any]],
    iou_type: IoUType,
    left_out: Collection[int] = (),
) -> LVISEval:
    """Runs the lvis package: federated rules, 300 detections per image.

    Args:
        ground_truth: The annotations.
        results: Detections from :func:`coco_results`; may be empty. Not changed.
        iou_type: What is compared.
        left_out: Ids of images that do not count.

    Returns:
        The finished evaluation: ``results``, ``eval["precision"]`` (T, R, K, A) with categories
        in ascending order of ids (``params.cat_ids``).
    """
    detections = _some(results, ground_truth.get_img_ids())
    with _working_lvis():
        evaluation = LVISEval(ground_truth, LVISResults(ground_truth, detections), iou_type)
        evaluation.params.img_ids = _others(evaluation.params.img_ids, left_out)
        evaluation.run()
    return evaluation


def ap50_per_category(evaluation: COCOeval | LVISEval) -> dict[int, float]:
    """AP at IoU 0.5 of each category: its mean precision over recall points, all areas.

    Args:
        evaluation: From :func:`evaluate_coco` or :func:`evaluate_lvis`.

    Returns:
        Percent by category id; NaN for a category without ground truth.
    """
    if isinstance(evaluation, COCOeval):
        thresholds, category_ids = evaluation.params.iouThrs, evaluation.params.catIds
        precision = evaluation.eval["precision"][..., -1]  # (T, R, K, A, M) -> (T, R, K, A)
    else:
        thresholds, category_ids = evaluation.params.iou_thrs, evaluation.params.cat_ids
        precision = evaluation.eval["precision"]
    at_half = int(np.flatnonzero(np.isclose(thresholds, 0.5))[0])
    precision = precision[at_half, :, :, 0]  # (R, K); all areas come first
    # -1 marks categories without ground truth, in all recall points at once.
    return {
        int(category_id): float(100 * column.mean()) if (column > -1).all() else float("nan")
        for category_id, column in zip(category_ids, precision.T, strict=True)
    }


def ap50_of_groups(
    ap50: Mapping[str, float], groups: Mapping[str, Collection[str]]
) -> dict[str, float]:
    """Means over groups of classes; classes without ground truth do not count.

    Args:
        ap50: Value by class name, NaN for a class without ground truth.
        groups: Class names by group; classes that have no value count like NaN.

    Returns:
        Mean by group, NaN where no class of it has ground truth.
    """
    result = {}
    for group, names in groups.items():
        values = np.array([ap50.get(name, np.nan) for name in names], dtype=np.float64)
        values = values[~np.isnan(values)]
        result[group] = float(values.mean()) if len(values) else float("nan")
    return result


def _others(image_ids: Sequence[int], left_out: Collection[int]) -> list[int]:
    return [image_id for image_id in image_ids if image_id not in left_out]


def _some(
    results: Sequence[Mapping[str, Any]], image_ids: Sequence[int], without: str | None = None
) -> list[dict[str, Any]]:
    """Shallow copies, as the evaluators write into them; never none, which they cannot take."""
    if not results:
        nothing = {"category_id": _NO_CATEGORY, "bbox": [0, 0, 1, 1], "score": 0.0}
        return [{"image_id": image_id, **nothing} for image_id in image_ids[:1]]
    return [{k: v for k, v in result.items() if k != without} for result in results]


@contextmanager
def _working_lvis() -> Iterator[None]:
    """Gives lvis's evaluator, and nothing else, the name ``np.float`` that NumPy 1.24 removed.

    Its warning about detections that were never in a file is kept back as well.
    """
    numpy, logger = lvis.eval.np, logging.getLogger("lvis.results")
    level = logger.level
    lvis.eval.np = _NumpyWithFloat()
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        lvis.eval.np = numpy
        logger.setLevel(level)


class _NumpyWithFloat:
    float = float

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)
