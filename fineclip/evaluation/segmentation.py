"""Zero-shot segmentation: every pixel gets the class whose name is nearest to the dense map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.datasets.label_maps import read_label_map
from fineclip.datasets.segmentation import LabelledImages
from fineclip.datasets.views import Views
from fineclip.evaluation.confusion import SegmentationScores, count_confusion
from fineclip.evaluation.image_metric import ImageMetric
from fineclip.images import SkippedImages, UnusableImageError
from fineclip.models.class_embeddings import build_class_embeddings
from fineclip.models.dense_clip import DenseCLIP
from fineclip.text.templates import Template, get_templates

_MOST_SCORES = 1 << 25
"""Scores of pixels that are held at a time: 128 MiB."""


def label_pixels(
    dense: Tensor,
    class_embeddings: Tensor,
    views: Views,
    size: tuple[int, int],
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The best class of each pixel.

    Cosines on the grid are resized bilinearly to the label map and compared there; those of
    several windows, and of padded inputs, are resized to their place on the canvas before, and
    averaged where windows overlap. Of equally similar classes the lower index wins.

    Args:
        dense: (v, D, h, w) unit vectors along D, one map per view.
        class_embeddings: (K, D) unit vectors.
        views: Where the v inputs lie.
        size: (height, width) of the label map.
        scale: Factor on cosines in the softmax that says how sure the answer is; None: it is not
            asked for.

    Returns:
        (height, width) int64 class indices, and float32 probabilities of them (ones without
        ``scale``).
    """
    canvas = views.canvas[0] * views.canvas[1]
    step = max(1, _MOST_SCORES // max(size[0] * size[1], canvas))
    best = dense.new_full(size, -torch.inf)
    labels = torch.zeros(size, dtype=torch.int64, device=dense.device)
    total = best.clone()  # log of the sum of the classes' exponentials
    for start in range(0, len(class_embeddings), step):
        part = class_embeddings[start : start + step]
        scores = _on_label_map(torch.einsum("vdhw,kd->vkhw", dense, part), views, size)
        value, index = scores.max(dim=0)
        labels = torch.where(value > best, index + start, labels)
        best = torch.maximum(best, value)
        if scale is not None:
            total = torch.logaddexp(total, (scale * scores).logsumexp(dim=0))
    sure = torch.ones_like(best) if scale is None else (scale * best - total).exp()
    return labels, sure


def _on_label_map(cosines: Tensor, views: Views, size: tuple[int, int]) -> Tensor:
    """(v, k, h, w) -> (k, height, width)."""
    if len(cosines) == 1 and views.inside == views.canvas:
        return _resize(cosines, size)[0]
    canvas = cosines.new_zeros(cosines.shape[1], *views.canvas)
    counts = cosines.new_zeros(views.canvas)
    side = views.side
    for (top, left), scores in zip(views.offsets, cosines, strict=True):
        rows, columns = slice(top, top + side), slice(left, left + side)
        canvas[:, rows, columns] += _resize(scores[None], (side, side))[0]
        counts[rows, columns] += 1
    canvas /= counts
    return _resize(canvas[None, :, : views.inside[0], : views.inside[1]], size)[0]


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


class SegmentationMetric(ImageMetric):
    """mIoU and its relatives of the labels that a dense map gives.

    A label map that cannot be used, or is not of its image's size, leaves the image out.

    Args:
        files: The data set.
        templates: Prompts, see :func:`fineclip.text.templates.get_templates`; those of all names
            of a class are averaged.
        background_threshold: Pixels whose best class has a smaller probability (softmax over the
            classes, with the model's own temperature) are background, and no names are asked for
            in its place; None: the background has prompts of its own.
        **options: See :class:`ImageMetric`.

    Raises:
        ValueError: A threshold where there is no background.
    """

    def __init__(
        self,
        files: LabelledImages,
        templates: str | Sequence[str] | Template = "vild",
        *,
        background_threshold: float | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if background_threshold is not None and files.background is None:
            raise ValueError(
                f"segmentation: {files.name} has no background class, so there is no background "
                "threshold (voc21 has one)"
            )
        self.files = files
        self.threshold = background_threshold
        self.templates = get_templates(templates)
        self._class_embeddings: Tensor | None = None
        self._scale = 1.0

    def prepare(self, clip: DenseCLIP) -> None:
        """Embeds the class names with the model that is about to be evaluated.

        Args:
            clip: The model, in eval mode.
        """
        prompts = self.files.prompts
        if self.threshold is not None:
            prompts = prompts[: self.files.background]
        self._class_embeddings = build_class_embeddings(
            clip, prompts, self.templates, cache=self.text_cache
        )
        self._scale = float(clip.logit_scale.exp())

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Labels the pixels of some images, and counts.

        Args:
            data_batch: The batch, read for ``skipped`` alone.
            data_samples: For each image ``image_id``, ``label_file``, ``image_size``
                (height, width) in pixels, ``views`` and ``dense`` (v, D, h, w).

        Raises:
            RuntimeError: :meth:`prepare` was not called.
            ValueError: A label that is no class.
        """
        if self._class_embeddings is None:
            raise RuntimeError("call SegmentationMetric.prepare(clip) before process")
        self.note_skipped(data_batch)
        for sample in data_samples:
            try:
                labels = read_label_map(
                    sample["label_file"],
                    num_classes=self.files.num_classes,
                    ignore_label=self.files.ignore_label,
                    label_map=self.files.label_map,
                )
            except UnusableImageError as error:
                self.note_skipped({"skipped": [(error.file, error.reason)]})
                continue
            if labels.shape != tuple(sample["image_size"]):
                reason = f"is {_size(labels.shape)} pixels, the image {_size(sample['image_size'])}"
                self.note_skipped({"skipped": [(sample["label_file"], reason)]})
                continue
            found = self._predict(sample["dense"], sample["views"], labels.shape)
            confusion = count_confusion(
                labels, found, self.files.num_classes, self.files.ignore_label
            ).ravel()
            # A few entries, not K x K of every image.
            entries = np.flatnonzero(confusion)
            self.results.append(
                {"image_id": sample["image_id"], "entries": entries, "pixels": confusion[entries]}
            )

    def _predict(self, dense: Tensor, views: Views, size: tuple[int, ...]) -> np.ndarray:
        """(H, W) int64 classes."""
        assert self._class_embeddings is not None
        scale = None if self.threshold is None else self._scale
        labels, sure = label_pixels(
            dense.float(), self._class_embeddings, views, (size[0], size[1]), scale
        )
        background = self.files.background
        if background is not None:
            if self.threshold is not None:
                labels[sure < self.threshold] = background
            labels = labels.clamp(max=background)
        return labels.cpu().numpy()

    def compute(
        self, records: Sequence[Mapping[str, Any]], skipped: Mapping[str, str]
    ) -> dict[str, float]:
        """Computes the scores.

        Args:
            records: One per image, from :meth:`process`.
            skipped: Reason by file of what was left out.

        Returns:
            In percent ``mIoU`` over the classes that occur in the label maps, ``mIoU-all`` over
            all of the list, ``mAcc``, ``fwIoU`` and ``pACC``; counts ``segmentation_images``,
            ``segmentation_classes`` (those that occur) and ``segmentation_skipped``. Without a
            labelled pixel the counts alone.

        Raises:
            UnusableImageError: Too many images or label maps are unusable.
        """
        counter = SkippedImages(len(records) + len(skipped))
        counter.add(len(records), sorted(skipped.items()))
        counter.finish()
        classes = self.files.num_classes
        confusion = np.zeros(classes * classes, dtype=np.int64)
        for record in records:
            confusion[record["entries"]] += record["pixels"]  # each entry is there once
        scores = SegmentationScores.from_confusion(confusion.reshape(classes, classes))
        results: dict[str, float] = {}
        if scores.pixels.any():
            fractions = {
                "mIoU": scores.mean_iou(),
                "mIoU-all": scores.mean_iou_of_all,
                "mAcc": scores.mean_accuracy(),
                "fwIoU": scores.frequency_weighted_iou,
                "pACC": scores.pixel_accuracy,
            }
            results = {name: 100 * value for name, value in fractions.items()}
        results["segmentation_images"] = len(records)
        results["segmentation_classes"] = int((scores.pixels > 0).sum())
        results["segmentation_skipped"] = len(skipped)
        return results


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[0]}"
