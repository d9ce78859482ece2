"""Image classification: by class names, and by linear probes on a few images per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.datasets.image_folder import ShotDraw
from fineclip.evaluation.box_classification import TOP_K, mean_class_accuracy, rank_classes
from fineclip.evaluation.image_metric import ImageMetric
from fineclip.models.class_embeddings import TextEncoder, build_class_embeddings
from fineclip.text.templates import Template, get_templates
from fineclip.text.vocabulary import Vocabulary

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
"""Strengths of the L2 penalty that a linear probe chooses from, strongest first."""

_DEFAULT_PENALTY = 1e-4
"""Where no image could be held out to choose by."""


class ClassificationMetric(ImageMetric):
    """Classifies whole images by the names of their classes.

    Args:
        vocabulary: The K classes.
        templates: Prompts, see :func:`fineclip.text.templates.get_templates`.
        **options: See :class:`ImageMetric`.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        templates: str | Sequence[str] | Template = "vild",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.vocabulary = vocabulary
        self.templates = get_templates(templates)
        self._class_embeddings: Tensor | None = None

    def prepare(self, clip: TextEncoder) -> None:
        """Embeds the class names with the model that is about to be evaluated.

        Args:
            clip: The model, in eval mode.
        """
        self._class_embeddings = build_class_embeddings(
            clip, self.vocabulary.prompt_names, self.templates, cache=self.text_cache
        ).cpu()

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keeps the best classes of a batch's images.

        Args:
            data_batch: The batch, read for ``skipped`` alone.
            data_samples: For each image ``image_id``, ``image_embedding`` (D,) and ``label``.

        Raises:
            RuntimeError: :meth:`prepare` was not called.
        """
        if self._class_embeddings is None:
            raise RuntimeError("call ClassificationMetric.prepare(clip) before process")
        self.note_skipped(data_batch)
        for sample in data_samples:
            embedding = sample["image_embedding"][None]
            ranked = rank_classes(embedding, self._class_embeddings, max(TOP_K))[0]
            self.results.append(
                {
                    "image_id": sample["image_id"],
                    "predictions": ranked,
                    "label": int(sample["label"]),
                }
            )

    def compute(
        self, records: Sequence[Mapping[str, Any]], skipped: Mapping[str, str]
    ) -> dict[str, float]:
        """Computes the accuracies.

        Args:
            records: One per image, from :meth:`process`.
            skipped: Reason by file of what was left out.

        Returns:
            In percent ``classification_top1`` and ``_top5`` over images, and
            ``classification_mean_top1`` and ``_mean_top5`` over the classes that occur; counts
            ``classification_images``, ``_classes`` and ``_skipped``. Without any image the counts
            alone.
        """
        labels = np.array([record["label"] for record in records], dtype=np.int64)
        results: dict[str, float] = {}
        if records:
            matches = np.stack([r["predictions"] for r in records]) == labels[:, None]
            for k in TOP_K:
                correct = matches[:, :k].any(axis=1)
                results[f"classification_top{k}"] = float(100 * correct.mean())
                results[f"classification_mean_top{k}"] = mean_class_accuracy(correct, labels)
        results["classification_images"] = len(records)
        results["classification_classes"] = len(np.unique(labels))
        results["classification_skipped"] = len(skipped)
        return results


def fit_logistic(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    penalty: float,
    start: Tensor | None = None,
) -> Tensor:
    """Multinomial logistic regression, by L-BFGS on all rows.

    Minimises mean cross entropy + penalty / 2 * |W|^2; biases are not penalised.

    Args:
        features: (n, D).
        labels: (n,) int64 classes.
        num_classes: K.
        penalty: Strength of the penalty, above 0.
        start: (K, D + 1) to start from, such as the result of another penalty; None: zeros.

    Returns:
        (K, D + 1) float64 weights, and biases in the last column.
    """
    rows = F.pad(features.double(), (0, 1), value=1.0)
    weights = rows.new_zeros(num_classes, rows.shape[1]) if start is None else start.clone()
    weights.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=500,
        tolerance_grad=1e-8,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(rows @ weights.T, labels)
        loss = loss + penalty / 2 * weights[:, :-1].square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return weights.detach()


def classify(features: Tensor, weights: Tensor) -> np.ndarray:
    """(n, D) rows and (K, D + 1) weights -> (n,) int64 best classes."""
    scores = F.pad(features.double(), (0, 1), value=1.0) @ weights.T
    return scores.argmax(dim=1).numpy()


class FewShotMetric(ImageMetric):
    """Linear probes on the embeddings of a few training images per class.

    For each number of shots and each seed, a logistic regression on unit-norm image embeddings;
    its penalty is the strongest of those with the best accuracy on the held-out training images.

    Args:
        test: Class by file, of the images that count.
        draws: The training images by seed.
        shots: Numbers of training images per class.
        num_classes: K.
        **options: See :class:`ImageMetric`.
    """

    def __init__(
        self,
        test: Mapping[str, int],
        draws: Sequence[ShotDraw],
        shots: Sequence[int],
        num_classes: int,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.test, self.draws, self.shots, self.num_classes = test, draws, shots, num_classes

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keeps the embeddings of a batch, of training and test images alike.

        Args:
            data_batch: The batch, read for ``skipped`` alone.
            data_samples: For each image ``image_id`` (its file) and ``image_embedding`` (D,).
        """
        self.note_skipped(data_batch)
        self.results += [
            {
                "image_id": sample["image_id"],
                # A clone: a view would keep the whole batch it is of.
                "embedding": sample["image_embedding"].float().cpu().clone(),
            }
            for sample in data_samples
        ]

    def compute(
        self, records: Sequence[Mapping[str, Any]], skipped: Mapping[str, str]
    ) -> dict[str, float]:
        """Trains and tests the probes.

        Args:
            records: One per image, from :meth:`process`.
            skipped: Reason by file of what was left out.

        Returns:
            In percent for each number of shots n ``few_shot<n>_top1`` over images and
            ``few_shot<n>_mean_top1`` over classes, means over the seeds, with ``..._sd``, the
            standard deviation over the seeds (of a sample; absent with one seed); counts
            ``few_shot_images`` (tested), ``few_shot_seeds`` and ``few_shot_skipped``.
        """
        embeddings = {record["image_id"]: record["embedding"] for record in records}
        rows, labels = _gather(embeddings, list(self.test.items()))
        results: dict[str, float] = {}
        for shots in self.shots if len(labels) else ():
            scores = [
                self._accuracies(embeddings, draw, shots, rows, labels.numpy())
                for draw in self.draws
            ]
            for name, values in zip(("top1", "mean_top1"), np.array(scores).T, strict=True):
                results[f"few_shot{shots}_{name}"] = float(values.mean())
                if len(values) > 1:
                    results[f"few_shot{shots}_{name}_sd"] = float(values.std(ddof=1))
        results["few_shot_images"] = len(labels)
        results["few_shot_seeds"] = len(self.draws)
        results["few_shot_skipped"] = len(skipped)
        return results

    def _accuracies(
        self,
        embeddings: Mapping[str, Tensor],
        draw: ShotDraw,
        shots: int,
        rows: Tensor,
        labels: np.ndarray,
    ) -> tuple[float, float]:
        """Top 1 over images and over classes of one probe, in percent."""
        chosen = [(file, label) for label, own in enumerate(draw.train) for file in own[:shots]]
        features, classes = _gather(embeddings, chosen)
        held_rows, held_labels = _gather(embeddings, draw.held_out)
        penalties = PENALTIES if len(held_labels) else (_DEFAULT_PENALTY,)
        best, weights = -1.0, None
        fitted: Tensor | None = None
        for penalty in penalties:
            fitted = fit_logistic(features, classes, self.num_classes, penalty, fitted)
            right = classify(held_rows, fitted) == held_labels.numpy()
            accuracy = float(right.mean()) if len(right) else 0.0
            if accuracy > best:
                best, weights = accuracy, fitted
        assert weights is not None
        correct = classify(rows, weights) == labels
        return float(100 * correct.mean()), mean_class_accuracy(correct, labels)


def _gather(
    embeddings: Mapping[str, Tensor], files: Sequence[tuple[str, int]]
) -> tuple[Tensor, Tensor]:
    """Embeddings (n, D) and classes (n,) of those files that could be used."""
    usable = [(embeddings[file], label) for file, label in files if file in embeddings]
    width = len(next(iter(embeddings.values()))) if embeddings else 0
    rows = torch.stack([row for row, _ in usable]) if usable else torch.zeros(0, width)
    return rows, torch.tensor([label for _, label in usable], dtype=torch.int64)
