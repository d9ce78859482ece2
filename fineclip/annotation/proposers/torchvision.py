"""Detectors of torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from fineclip.annotation.interfaces import Proposals
from fineclip.annotation.pretrained import ComputeOptions, require_name
from fineclip.annotation.proposers.found import (
    SCORE_THRESHOLD,
    Words,
    as_rgb,
    by_group,
    checked_threshold,
    found_in,
)
from fineclip.checkpoints import load_trained, read_checkpoint
from fineclip.checks import nearest
from fineclip.models.class_embedding_files import weights_identity
from fineclip.text import as_vocabulary


class TorchvisionProposer:
    """A detector of torchvision; see :class:`fineclip.annotation.interfaces.Proposer`.

    Args:
        argument: ``NAME`` of a builder ("fasterrcnn_resnet50_fpn_v2"), with its published weights,
            or ``NAME,WEIGHTS`` with a file of trained ones.
        vocabulary: Classes of a file of weights, in their order (label 1 is the first); published
            weights know their own.
        score_threshold: What is less certain is left out.
        device: See :class:`fineclip.annotation.pretrained.ComputeOptions`.
        amp: See there.

    Raises:
        ValueError: There is no such detector, or the weights do not fit.
        FileNotFoundError: There is no such file.
    """

    needs_images = True

    def __init__(
        self,
        argument: str,
        *,
        vocabulary: Words | None = None,
        score_threshold: float = SCORE_THRESHOLD,
        device: str | None = None,
        amp: str | None = None,
    ) -> None:
        name, _, file = require_name(argument, "torchvision").partition(",")
        known = torchvision.models.list_models(torchvision.models.detection)
        if name not in known:
            raise ValueError(
                f"proposer torchvision:{name}: no such detector; {nearest(name, known)}"
            )
        self._options = ComputeOptions(device, amp)
        self._threshold = checked_threshold(score_threshold)
        if file:
            if vocabulary is None:
                raise ValueError(
                    f"proposer torchvision:{argument}: the classes of these weights are not known; "
                    "set a vocabulary"
                )
            classes: Sequence[str] = as_vocabulary(vocabulary).names
            model = torchvision.models.get_model(
                name, weights=None, weights_backbone=None, num_classes=len(classes) + 1
            )
            load_trained(model, read_checkpoint(file), file)
            self._labels = ["", *classes]
            self.identity = f"torchvision:{name},{Path(file).name}@{weights_identity('', file)}"
        else:
            weights = torchvision.models.get_model_weights(name).DEFAULT
            # torchvision unpickles its downloads. Read as tensors alone first, which fails if there
            # is more: the same file in the cache can then do no harm.
            weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
            self._labels = list(weights.meta["categories"])
            model = torchvision.models.get_model(name, weights=weights)
            self.identity = f"torchvision:{name}@{Path(weights.url).stem}"
        self.categories = tuple(text for text in self._labels if _is_class(text))
        self._model = model.to(self._options.device).eval()

    def propose(
        self, images: Sequence[Image.Image | None], keys: Sequence[str], known: Sequence[Proposals]
    ) -> list[Proposals]:
        """Boxes of some images."""
        return by_group(as_rgb(images), lambda image: image.size, self._detect)

    @torch.inference_mode()
    def _detect(self, images: list[Image.Image]) -> list[Proposals]:
        pixels = [pil_to_tensor(image).to(self._options.device) / 255 for image in images]
        with self._options.autocast():
            found = self._model(pixels)
        return [self._listed(image, one) for image, one in zip(images, found, strict=True)]

    def _listed(self, image: Image.Image, one: dict[str, Any]) -> Proposals:
        kept = one["scores"] >= self._threshold
        names = [self._labels[label] for label in one["labels"][kept].tolist()]
        names = [name if _is_class(name) else "" for name in names]
        return found_in(image, one["boxes"][kept], one["scores"][kept], names)


def _is_class(name: str) -> bool:
    return name not in ("", "N/A", "__background__")
