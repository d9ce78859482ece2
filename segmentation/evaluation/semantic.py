"""Evaluation of semantic segmentation, with detectron2's interface."""

from __future__ import annotations

import json
import logging
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from fineclip.datasets.label_maps import read_label_map
from fineclip.evaluation.confusion import SegmentationScores, count_confusion, most_confused
from fineclip.files import write_atomically
from fineclip.images import SkippedImages, UnusableImageError
from segmentation.data.registered import registered_set
from segmentation.data.seen_classes import seen_classes
from segmentation.evaluation.tables import per_class_table

RESULTS_FILE = "sem_seg_evaluation.json"


class SemanticSegmentationEvaluator(DatasetEvaluator):
    """mIoU and its relatives of one data set.

    Label maps are read one at a time, when their image has been answered; what stays in memory is
    one (K, K) matrix.

    Args:
        dataset_name: Registered with detectron2; metadata ``stuff_classes``, and optionally
            ``ignore_label`` (255), ``seen_classes`` and ``background_class``
            (:func:`segmentation.data.register_datasets`).
        distributed: Sum up what all processes saw. False: this process alone.
        output_dir: Folder to write ``sem_seg_evaluation.json`` to; None: nothing is written.
        training_names: Class names trained with, which part the classes into seen and unseen ones;
            None: by the metadata's ``seen_classes``, and without them not at all.
    """

    def __init__(
        self,
        dataset_name: str,
        distributed: bool = True,
        output_dir: str | Path | None = None,
        *,
        training_names: Sequence[str] | None = None,
    ) -> None:
        found = registered_set(dataset_name, "evaluation")
        self.dataset_name = dataset_name
        self.distributed = distributed
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.class_names = found.class_names
        self.ignore_label = found.ignore_label
        self.background = found.background
        self.seen = self._seen(found.seen, training_names)
        self._records = {r["file_name"]: r for r in DatasetCatalog.get(dataset_name)}
        self._log = logging.getLogger(__name__)
        self.reset()

    def reset(self) -> None:
        """Forgets everything counted."""
        classes = len(self.class_names)
        self._confusion = np.zeros((classes, classes), dtype=np.int64)
        self._images = 0
        self._skipped: list[tuple[str, str]] = []

    def process(
        self, inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]
    ) -> None:
        """Counts the pixels of some images.

        Args:
            inputs: One dict per image with ``file_name``, as the data set has it, and ``skipped``,
                (file, reason), where the image cannot be used; it then does not count.
            outputs: One dict per image with ``sem_seg``: (T, H, W) scores, or
                ``sem_seg_labels``: (H, W) class indices, of the size of the label map. T is the
                number of the data set's classes; where it has a background, at least that less
                one, for every class from there on is the background.

        Raises:
            ValueError: Sizes or classes that do not fit the data set; the message names the file.
            KeyError: An image that is not in the data set.
        """
        for given, output in zip(inputs, outputs, strict=True):
            record = self._record(given["file_name"])
            if "skipped" in given:
                self._skip(*given["skipped"])
                continue
            try:
                labels = read_label_map(
                    record["sem_seg_file_name"],
                    num_classes=len(self.class_names),
                    ignore_label=self.ignore_label,
                    label_map=record.get("label_map"),
                )
            except UnusableImageError as error:
                self._skip(error.file, error.reason)
                continue
            predictions = self._predictions(output)
            if predictions.shape != labels.shape:
                raise ValueError(
                    f"the prediction for {given['file_name']} has {_size(predictions)} pixels, its "
                    f"label map {record['sem_seg_file_name']} {_size(labels)}; pass the model "
                    "'height' and 'width' of the label map"
                )
            self._confusion += count_confusion(
                labels, predictions, len(self.class_names), self.ignore_label
            )
            self._images += 1

    def evaluate(self) -> OrderedDict[str, dict[str, float]] | None:
        """Computes the results.

        Returns:
            ``{"sem_seg": {...}}`` in percent: ``mIoU`` over the classes that occur and
            ``mIoU-all`` over all of the list, ``mAcc``, ``fwIoU``, ``pACC``; where
            seen classes are known ``mIoU-seen``, ``mIoU-unseen``, ``mAcc-seen``, ``mAcc-unseen``
            (each only if the group has labelled pixels); ``IoU-NAME`` and ``ACC-NAME`` of every
            class, NaN for those that no pixel is labelled with. None on all processes but the
            first.

        Raises:
            UnusableImageError: Too many images, or label maps, cannot be used, or all.
        """
        if self.distributed:
            comm.synchronize()
            parts = comm.gather((self._confusion, self._images, self._skipped))
            if not comm.is_main_process():
                return None
            confusion = sum(part[0] for part in parts)
            images = sum(part[1] for part in parts)
            skipped = [item for part in parts for item in part[2]]
        else:
            confusion, images, skipped = self._confusion, self._images, self._skipped
        if skipped:
            self._log.warning("%s: %d images were skipped", self.dataset_name, len(skipped))
        counter = SkippedImages(images + len(skipped))
        counter.add(images, skipped)
        counter.finish()
        if not confusion.any():
            self._log.warning("%s: no labelled pixel was seen", self.dataset_name)
        results = self._results(SegmentationScores.from_confusion(confusion))
        if self.output_dir is not None:
            self._write(self.output_dir, results, images, self._confused(confusion))
        self._log.info("%s, per class:\n%s", self.dataset_name, per_class_table(results))
        return OrderedDict(sem_seg=results)

    def _seen(
        self, metadata: Sequence[str] | None, training_names: Sequence[str] | None
    ) -> dict[str, tuple[bool, ...]]:
        """Which classes each group has."""
        if training_names is not None:
            seen = seen_classes(self.class_names, training_names)
        elif metadata is not None:
            seen = tuple(name in set(metadata) for name in self.class_names)
        else:
            return {}
        # The background is no class that one could have been trained with, or not.
        unseen = (not s and i != self.background for i, s in enumerate(seen))
        return {"seen": seen, "unseen": tuple(unseen)}

    def _skip(self, file: str, reason: str) -> None:
        self._skipped.append((file, reason))
        self._log.warning("skipped %s: %s", file, reason)

    def _record(self, file_name: str) -> Mapping[str, Any]:
        if file_name not in self._records:
            raise KeyError(f"{file_name} is no image of the data set {self.dataset_name}")
        return self._records[file_name]

    def _predictions(self, output: Mapping[str, Any]) -> np.ndarray:
        """(H, W) predicted classes."""
        if "sem_seg_labels" in output:
            answer = torch.as_tensor(output["sem_seg_labels"])
        else:
            scores = output["sem_seg"]
            self._check_num_classes(len(scores))
            answer = scores.argmax(dim=0)
        labels = answer.cpu().numpy()
        if self.background is not None:
            labels = np.minimum(labels, self.background)
        if labels.size and (labels.max() >= len(self.class_names) or labels.min() < 0):
            raise self._foreign_classes(f"class {labels.max()}")
        return labels

    def _check_num_classes(self, found: int) -> None:
        expected = len(self.class_names)
        if found != expected and (self.background is None or found < self.background):
            raise self._foreign_classes(f"{found} classes")

    def _foreign_classes(self, answer: str) -> ValueError:
        return ValueError(
            f"the model answered with {answer}, data set {self.dataset_name} has "
            f"{len(self.class_names)} classes; set MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON to its list"
        )

    def _results(self, scores: SegmentationScores) -> dict[str, float]:
        results = {
            "mIoU": scores.mean_iou(),
            "mIoU-all": scores.mean_iou_of_all,
            "mAcc": scores.mean_accuracy(),
            "fwIoU": scores.frequency_weighted_iou,
            "pACC": scores.pixel_accuracy,
        }
        for group, classes in self.seen.items():
            if not math.isnan(scores.mean_iou(classes)):
                results[f"mIoU-{group}"] = scores.mean_iou(classes)
                results[f"mAcc-{group}"] = scores.mean_accuracy(classes)
        for prefix, values in (("IoU", scores.iou), ("ACC", scores.accuracy)):
            for name, value in zip(self.class_names, values, strict=True):
                results[f"{prefix}-{name}"] = float(value)
        return {key: 100 * value for key, value in results.items()}

    def _confused(self, confusion: np.ndarray) -> list[dict[str, Any]]:
        return [
            {"true": self.class_names[true], "predicted": self.class_names[said], "share": share}
            for true, said, share in most_confused(confusion)
        ]

    def _write(
        self,
        folder: Path,
        results: Mapping[str, float],
        images: int,
        confused: Sequence[Mapping[str, Any]],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        content = {
            "dataset": self.dataset_name,
            "images": images,
            # JSON has no NaN.
            "sem_seg": {k: None if math.isnan(v) else v for k, v in results.items()},
            "confused": confused,
        }
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_atomically(folder / RESULTS_FILE, text)


def _size(pixels: np.ndarray) -> str:
    return " x ".join(str(side) for side in reversed(pixels.shape))
