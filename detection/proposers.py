"""Detectors of mmdet, and F-ViT, as proposers of the data engine."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.models import RPN
from mmdet.registry import MODELS
from mmdet.utils import get_test_pipeline_cfg
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import init_default_scope
from PIL import Image

from detection.inference import load_detector
from fineclip.annotation.interfaces import Proposals
from fineclip.annotation.pretrained import ComputeOptions, require_name
from fineclip.annotation.proposers.found import (
    SCORE_THRESHOLD,
    Words,
    as_rgb,
    by_group,
    checked_threshold,
    found_in,
    looked_for,
)
from fineclip.checkpoints import load_trained, read_checkpoint
from fineclip.engine import explaining_errors, load_config
from fineclip.files import require_file
from fineclip.models.class_embedding_files import weights_identity
from fineclip.weights import weights_file


class MMDetProposer:
    """Any detector or RPN of mmdet; see :class:`fineclip.annotation.interfaces.Proposer`.

    Args:
        argument: ``CONFIG,WEIGHTS``: a Python file, which is run, and a checkpoint, which is read
            as tensors alone.
        score_threshold: What is less certain is left out.
        device: See :class:`fineclip.annotation.pretrained.ComputeOptions`.
        amp: See there.
        options: Overrides of the config by key.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: The argument is malformed, or the weights do not fit the config.
    """

    needs_images = True

    def __init__(
        self,
        argument: str,
        *,
        score_threshold: float = SCORE_THRESHOLD,
        device: str | None = None,
        amp: str | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        file, _, weights = require_name(argument, "mmdet").partition(",")
        if not weights:
            raise ValueError(f"proposer mmdet:{argument}: expected mmdet:CONFIG,WEIGHTS")
        require_file(file, "proposer mmdet")
        self._compute = ComputeOptions(device, amp)
        self._threshold = checked_threshold(score_threshold)
        trained = read_checkpoint(weights, mmap=True)
        config = load_config(file, dict(options or {}))
        init_default_scope(config.get("default_scope", "mmdet"))
        with explaining_errors(config):
            # Nothing is initialised, so no weights of a backbone are downloaded.
            model = revert_sync_batchnorm(MODELS.build(config.model))
            self._model = model.to(self._compute.device).eval()
            load_trained(self._model, trained, weights)
            pipeline = copy.deepcopy(get_test_pipeline_cfg(config))
        pipeline[0].type = "mmdet.LoadImageFromNDArray"
        self._pipeline = Compose([step for step in pipeline if "Annotations" not in step.type])
        # An RPN's boxes have a label, too, which stands for nothing.
        nameless = isinstance(self._model, RPN)
        meta = (trained.get("meta") or {}).get("dataset_meta") or {}
        names = meta.get("classes", meta.get("CLASSES", ()))  # of mmdet 3 and its first releases
        self.categories: Sequence[str] = () if nameless else tuple(map(str, names))
        self.identity = (
            f"mmdet:{Path(file).name},{Path(weights).name}@{weights_identity('', weights)}"
        )

    def propose(
        self, images: Sequence[Image.Image | None], keys: Sequence[str], known: Sequence[Proposals]
    ) -> list[Proposals]:
        """Boxes of some images."""
        prepared = [(image, self._prepared(image)) for image in as_rgb(images)]
        return by_group(prepared, lambda item: item[1]["inputs"].shape, self._detect)

    def _prepared(self, image: Image.Image) -> dict[str, Any]:
        pixels = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])  # mmdet reads BGR
        return self._pipeline({"img": pixels, "img_id": 0})

    @torch.inference_mode()
    def _detect(self, items: list[tuple[Image.Image, dict[str, Any]]]) -> list[Proposals]:
        data = {key: [made[key] for _, made in items] for key in ("inputs", "data_samples")}
        with self._compute.autocast():
            results = self._model.test_step(data)
        proposals = []
        for (image, _), result in zip(items, results, strict=True):
            found = result.pred_instances.cpu()
            found = found[found.scores >= self._threshold]
            labels = found.labels.tolist() if "labels" in found else [0] * len(found)
            names = [self.categories[n] if n < len(self.categories) else "" for n in labels]
            proposals.append(found_in(image, found.bboxes, found.scores, names))
        return proposals


class FViTProposer:
    """Our own detector of words; see :class:`fineclip.annotation.interfaces.Proposer`.

    Args:
        argument: Trained weights, or the work dir of their training.
        vocabulary: What it looks for.
        score_threshold: What is less certain is left out.
        text_weights: See :class:`detection.inference.OpenVocabularyDetector`.
        device: See :class:`fineclip.annotation.pretrained.ComputeOptions`.
        amp: See there.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: There is no vocabulary, or the weights are no F-ViT's.
    """

    needs_images = True

    def __init__(
        self,
        argument: str,
        *,
        vocabulary: Words | None = None,
        score_threshold: float = SCORE_THRESHOLD,
        text_weights: str | None = None,
        device: str | None = None,
        amp: str | None = None,
    ) -> None:
        weights = weights_file(require_name(argument, "fvit"))
        words = looked_for(vocabulary, f"fvit:{weights}")
        compute = ComputeOptions(device, amp)
        self._threshold = checked_threshold(score_threshold)
        self._detector = load_detector(
            argument, words, text_pretrained=text_weights, device=compute.device, amp=compute.dtype
        )
        self.categories = self._detector.names
        self.identity = f"fvit:{weights.name}@{weights_identity('', weights)}"

    def propose(
        self, images: Sequence[Image.Image | None], keys: Sequence[str], known: Sequence[Proposals]
    ) -> list[Proposals]:
        """Boxes of some images."""
        return by_group(as_rgb(images), lambda image: image.size, self._detect)

    def _detect(self, images: list[Image.Image]) -> list[Proposals]:
        proposals = []
        for image, found in zip(
            images, self._detector.detect_batch(images, self._threshold), strict=True
        ):
            boxes = np.array([one["bbox"] for one in found], np.float32).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            scores = [one["score"] for one in found]
            proposals.append(found_in(image, boxes, scores, [one["category"] for one in found]))
        return proposals
