"""mmdet metrics: AP over all classes of a vocabulary, and over its base and novel ones.

Generalised protocol: every class competes in every image (Bansal et al., ECCV 2018; ViLD, ICLR
2022). "novel AP50" is the mean over the novel classes that have ground truth.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from lvis import LVISEval
from mmdet.evaluation import CocoMetric
from mmdet.registry import METRICS
from mmengine.fileio import get_local_path
from mmengine.logging import MMLogger
from pycocotools.cocoeval import COCOeval
from terminaltables import AsciiTable

from detection.datasets.indices import CocoAnnotations, LvisAnnotations
from detection.evaluation.average_precision import (
    IoUType,
    ap50_of_groups,
    ap50_per_category,
    coco_results,
    evaluate_coco,
    evaluate_lvis,
)
from detection.evaluation.matching import matched_regions
from fineclip.annotations import mask_of
from fineclip.annotations.predictions import Predictions, write_predictions
from fineclip.files import write_atomically
from fineclip.images import UnusableImageError

_KINDS = ("bbox", "segm")
_COCO_STATS = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")


@METRICS.register_module()
class OpenVocabularyCocoMetric(CocoMetric):
    """COCO AP of boxes and masks, with base, novel and all AP50 beside it.

    Classes, order and split are those that the data set says in its ``metainfo``, as
    :class:`detection.datasets.OpenVocabularyCocoDataset` does; the annotation file is matched by
    name.

    Results, after the prefix ``coco/``: ``bbox_mAP``, ``bbox_mAP_50``, ... (fractions, as
    ``CocoMetric``) and in percent, not rounded, ``base_ap50``, ``novel_ap50``, ``all_ap50``; with
    masks ``segm_mAP``, ... and ``base_mask_ap50`` and so on. Without a split only the ``all``
    ones. A mean over no class is NaN.

    Args:
        ann_file: Annotations to evaluate on. Every image of it counts, but for those that could not
            be read.
        metric: ``"bbox"``, ``"segm"`` or both.
        classwise: Also log and return the AP50 of each class, ``<name>_ap50``.
        proposal_nums: Detections per image and category; the last counts for AP50.
        format_only: Write the detections and evaluate nothing.
        outfile_prefix: Write ``<prefix>.bbox.json`` and, with masks, ``<prefix>.segm.json`` in
            COCO's results format.
        backend_args: Where files are, see ``mmengine.fileio``.
        collect_device: See ``mmengine.evaluator.BaseMetric``.
        prefix: In place of ``coco``.

    Raises:
        FileNotFoundError: No such annotation file.
        ValueError: A malformed annotation file, an unknown metric, or ``format_only`` without
            ``outfile_prefix``.
    """

    default_prefix: ClassVar[str] = "coco"
    annotations_type: ClassVar[type] = CocoAnnotations
    predictions_file: Path | None = None  # where to keep what was found in each image

    def __init__(
        self,
        ann_file: str,
        metric: str | Sequence[str] = "bbox",
        *,
        classwise: bool = False,
        proposal_nums: Sequence[int] = (100, 300, 1000),
        format_only: bool = False,
        outfile_prefix: str | None = None,
        backend_args: dict[str, Any] | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        kinds = [metric] if isinstance(metric, str) else list(metric)
        if not kinds or any(kind not in _KINDS for kind in kinds):
            raise ValueError(f"metric: expected {' or '.join(map(repr, _KINDS))}, got {metric!r}")
        if format_only and not outfile_prefix:
            raise ValueError("format_only: give outfile_prefix, the path that the files begin with")
        super().__init__(
            metric=kinds,
            classwise=classwise,
            proposal_nums=proposal_nums,
            format_only=format_only,
            outfile_prefix=outfile_prefix,
            backend_args=backend_args,
            collect_device=collect_device,
            prefix=prefix,
        )
        self.ann_file = ann_file
        self._image_paths: dict[int, str] = {}
        with get_local_path(ann_file, backend_args=backend_args) as path:
            # The name is CocoMetric's: its `process` looks whether there are annotations.
            self._coco_api = self.annotations_type(path)
        if not self._coco_api.imgs:
            raise ValueError(f"{ann_file}: images: the list is empty, nothing can be evaluated")

    def process(
        self, data_batch: Mapping[str, Any], data_samples: Sequence[Mapping[str, Any]]
    ) -> None:
        """Keeps the detections of a batch.

        Args:
            data_batch: Not needed.
            data_samples: Detections and metainfo; with ``skipped``, of an image that could not be
                read.
        """
        for sample in data_samples:
            if skipped := sample.get("skipped"):
                # One entry per image, in order: so mmengine drops what a sampler has drawn twice.
                self.results.append(({}, {"img_id": sample["img_id"], "skipped": skipped}))
            else:
                super().process(data_batch, [sample])
                if self.predictions_file is not None and "img_path" in sample:
                    self._image_paths[sample["img_id"]] = str(sample["img_path"])

    def compute_metrics(self, results: Sequence[tuple[dict, dict]]) -> dict[str, float]:
        """Evaluates the collected detections.

        Args:
            results: What ``process`` kept, of all processes.

        Returns:
            The metrics by name; none with ``format_only``.

        Raises:
            ValueError: No metainfo, classes that are not in the annotation file, annotations
                without a box, or detections without the masks that are to be evaluated.
        """
        predictions = [p for _, p in results if "skipped" not in p]
        skipped = {p["img_id"]: p["skipped"][0] for _, p in results if "skipped" in p}
        if skipped and not predictions:
            file, reason = next(iter(skipped.values()))
            raise UnusableImageError(file, f"{reason} (nor can any other image be used)")
        category_ids = self._category_ids()
        have_masks = bool(predictions) and all("masks" in p for p in predictions)
        if predictions and "segm" in self.metrics and not have_masks:
            raise ValueError("metric 'segm': the detector gives no masks; evaluate 'bbox' alone")
        detections = {
            kind: coco_results(predictions, category_ids, masks=kind == "segm")
            for kind in _KINDS
            if kind == "bbox" or have_masks
        }
        if self.outfile_prefix:
            self._export(detections)
        if self.predictions_file is not None:
            write_predictions(self.predictions_file, self._per_image(predictions, category_ids))
        if self.format_only:
            return {}
        if not self._coco_api.anns:
            raise ValueError(f"{self.ann_file}: no annotations to evaluate on; use format_only")
        if "segm" in self.metrics and not any(map(mask_of, self._coco_api.anns.values())):
            raise ValueError(f"{self.ann_file}: metric 'segm': none of its boxes has a mask")
        metrics: dict[str, float] = {}
        for kind in self.metrics:
            found = detections.get(kind, [])
            evaluation = self.evaluate_detections(found, kind, category_ids, skipped)
            metrics |= self.summary(evaluation, kind)
            metrics |= self._group_ap50(ap50_per_category(evaluation), kind)
        return metrics

    def evaluate_detections(
        self,
        detections: list[dict[str, Any]],
        kind: IoUType,
        category_ids: Sequence[int | None],
        left_out: Collection[int] = (),
    ) -> COCOeval | LVISEval:
        """Runs the evaluator.

        Args:
            detections: In COCO's results format.
            kind: ``"bbox"`` or ``"segm"``.
            category_ids: Annotation id of each label, None where the file does not have it.
            left_out: Ids of images that do not count.

        Returns:
            The finished evaluation.
        """
        found = [category_id for category_id in category_ids if category_id is not None]
        truth = self._coco_api.for_masks() if kind == "segm" else self._coco_api
        return evaluate_coco(truth, detections, kind, found, tuple(self.proposal_nums), left_out)

    def summary(self, evaluation: COCOeval, kind: IoUType) -> dict[str, float]:
        """The evaluator's own figures.

        Args:
            evaluation: From :meth:`evaluate_detections`.
            kind: ``"bbox"`` or ``"segm"``.

        Returns:
            Fractions by name.
        """
        return {
            f"{kind}_{name}": float(value)
            for name, value in zip(_COCO_STATS, evaluation.stats, strict=False)
        }

    def _category_ids(self) -> list[int | None]:
        """Annotation id of each label."""
        classes = (self.dataset_meta or {}).get("classes")
        if not classes:
            raise ValueError(f"{type(self).__name__}: dataset_meta must hold 'classes'")
        by_name = {category["name"]: id_ for id_, category in self._coco_api.cats.items()}
        category_ids = [by_name.get(name) for name in classes]
        if not any(category_id is not None for category_id in category_ids):
            raise ValueError(
                f"{self.ann_file}: none of its categories is a class of the data set, which has "
                f"{classes[0]!r} and {len(classes) - 1} more"
            )
        return category_ids

    def _group_ap50(self, by_id: Mapping[int, float], kind: IoUType) -> dict[str, float]:
        ap50 = {self._coco_api.cats[id_]["name"]: value for id_, value in by_id.items()}
        groups = {
            "base": self.dataset_meta.get("base_classes", ()),
            "novel": self.dataset_meta.get("novel_classes", ()),
            "all": self.dataset_meta["classes"],
        }
        infix = "mask_ap50" if kind == "segm" else "ap50"
        means = ap50_of_groups(ap50, {group: names for group, names in groups.items() if names})
        logger = MMLogger.get_current_instance()
        for group, mean in means.items():
            counted = sum(ap50.get(name, float("nan")) >= 0 for name in groups[group])
            logger.info(
                f"{kind} AP50 of {group}: {mean:.3f} "
                f"({counted} of {len(groups[group])} classes have ground truth)"
            )
        metrics = {f"{group}_{infix}": mean for group, mean in means.items()}
        if self.classwise:
            rows = [(name, ap50.get(name, float("nan"))) for name in groups["all"]]
            table = [("class", "AP50"), *((name, f"{value:.3f}") for name, value in rows)]
            logger.info(f"{kind}\n{AsciiTable(table).table}")
            metrics |= {f"{name}_{infix}": value for name, value in rows}
        return metrics

    def _per_image(
        self, predictions: Sequence[Mapping[str, Any]], category_ids: Sequence[int | None]
    ) -> Predictions:
        """What was found in each image, beside what is annotated there; crowds are neither."""
        label_of = {id_: label for label, id_ in enumerate(category_ids) if id_ is not None}
        images, root = {}, ""
        for found in predictions:
            image_id = found["img_id"]
            name = str(self._coco_api.imgs[image_id]["file_name"])
            path = self._image_paths.get(image_id, "")
            if path.endswith(name):
                root = path.removesuffix(name)
            truth = [
                (annotation["bbox"], label_of[annotation["category_id"]])
                for annotation in self._coco_api.img_ann_map.get(image_id, ())
                if annotation["category_id"] in label_of and not annotation.get("iscrowd")
            ]
            images[name] = matched_regions(
                truth, *(np.asarray(found[key]) for key in ("bboxes", "labels", "scores"))
            )
        return Predictions(root, tuple(self.dataset_meta["classes"]), images)

    def _export(self, detections: Mapping[str, list[dict[str, Any]]]) -> None:
        for kind, results in detections.items():
            path = Path(f"{self.outfile_prefix}.{kind}.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(results, separators=(",", ":")))
            MMLogger.get_current_instance().info(f"wrote {len(results)} detections to {path}")


@METRICS.register_module()
class OpenVocabularyLVISMetric(OpenVocabularyCocoMetric):
    """LVIS AP of boxes and masks by the lvis package, with base, novel and all AP50 beside it.

    Results, after the prefix ``lvis/``: ``bbox_AP``, ``bbox_AP50``, ``bbox_AP75``, ``bbox_APs``,
    ``bbox_APm``, ``bbox_APl``, ``bbox_APr``, ``bbox_APc``, ``bbox_APf`` and the same for ``segm``
    (fractions; ``segm_APr`` is the headline of OV-LVIS), and in percent ``base_ap50``,
    ``novel_ap50``, ``all_ap50`` for boxes, ``base_mask_ap50`` and so on for masks. The limit is
    LVIS's, 300 detections per image over all classes; ``proposal_nums`` is not used.

    Args, errors: as :class:`OpenVocabularyCocoMetric`; ``ann_file`` must have LVIS's keys.
    """

    default_prefix: ClassVar[str] = "lvis"
    annotations_type: ClassVar[type] = LvisAnnotations

    def evaluate_detections(
        self,
        detections: list[dict[str, Any]],
        kind: IoUType,
        category_ids: Sequence[int | None],
        left_out: Collection[int] = (),
    ) -> LVISEval:
        """Runs the evaluator; see the base class. All categories of the file count."""
        truth = self._coco_api.for_masks() if kind == "segm" else self._coco_api
        return evaluate_lvis(truth, detections, kind, left_out)

    def summary(self, evaluation: LVISEval, kind: IoUType) -> dict[str, float]:
        """The evaluator's own figures; see the base class."""
        return {
            f"{kind}_{name}": float(value)
            for name, value in evaluation.results.items()
            if name.startswith("AP")
        }
