"""YOLO detectors of ultralytics, the paper's YOLOv9 among them.

The library is not among this project's requirements, and is imported here alone, when it is asked
for: its licence, AGPL-3.0, also binds whoever offers what they build with it as a service. Its own
checkpoints (``*.pt``) are pickles of whole programs and never loaded here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

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
from fineclip.checks import integer_from
from fineclip.files import require_file
from fineclip.models.class_embedding_files import weights_identity
from fineclip.text import as_vocabulary

# What the library does by itself: installs packages, looks for a network, reports its use.
_QUIET = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}


class UltralyticsProposer:
    """A YOLO; see :class:`fineclip.annotation.interfaces.Proposer`.

    Args:
        argument: ``ARCHITECTURE.yaml,WEIGHTS`` with an architecture of the library ("yolov9e.yaml")
            and its tensors in a safetensors file, or ``MODEL.onnx``.
        vocabulary: Names of the classes, in order; None: COCO's for 80, else the file's own.
        score_threshold: What is less certain is left out.
        side: Pixels of the longer side of the input, a multiple of 32.
        max_boxes: Of an image.
        device: See :class:`fineclip.annotation.pretrained.ComputeOptions`.
        amp: See there.

    Raises:
        ValueError: A malformed argument, a pickle, or weights that do not fit.
        FileNotFoundError: A file does not exist.
        ImportError: ultralytics is not installed.
    """

    needs_images = True

    def __init__(
        self,
        argument: str,
        *,
        vocabulary: Words | None = None,
        score_threshold: float = SCORE_THRESHOLD,
        side: int = 640,
        max_boxes: int = 300,
        device: str | None = None,
        amp: str | None = None,
    ) -> None:
        model, _, weights = require_name(argument, "ultralytics").partition(",")
        _check_kind(model, weights)
        integer_from(32).require(side, "side")
        integer_from(1).require(max_boxes, "max_boxes")
        self._compute = ComputeOptions(device, amp)
        self._model = _load(model, weights)
        names: Sequence[str] = [str(self._model.names[key]) for key in sorted(self._model.names)]
        if vocabulary is not None:
            names = as_vocabulary(vocabulary).names
        elif names == [str(place) for place in range(80)]:  # of an architecture without a data set
            names = as_vocabulary("coco").names
        self.categories = tuple(names)
        self._options = {
            "conf": checked_threshold(score_threshold),
            "imgsz": side,
            "max_det": max_boxes,
            "device": str(self._compute.device),
            "verbose": False,
        }
        file = weights or model
        self.identity = f"ultralytics:{Path(model).name}@{weights_identity('', file)}"

    def propose(
        self, images: Sequence[Image.Image | None], keys: Sequence[str], known: Sequence[Proposals]
    ) -> list[Proposals]:
        """Boxes of some images."""
        return by_group(as_rgb(images), lambda image: image.size, self._detect)

    def _detect(self, images: list[Image.Image]) -> list[Proposals]:
        with self._compute.autocast():
            found = self._model.predict(images, **self._options)
        return [
            found_in(
                image,
                one.boxes.xyxy,
                one.boxes.conf,
                [self._name(int(label)) for label in one.boxes.cls.tolist()],
            )
            for image, one in zip(images, found, strict=True)
        ]

    def _name(self, label: int) -> str:
        return self.categories[label] if label < len(self.categories) else ""


def _check_kind(model: str, weights: str) -> None:
    where = f"proposer ultralytics:{model}"
    if model.endswith(".onnx") and not weights:
        require_file(model, where)
        return
    if model.endswith(".yaml") and weights:
        return
    if model.endswith(".pt") or weights.endswith(".pt"):
        raise ValueError(
            f"{where}: *.pt files of ultralytics are pickles, which are never loaded; where you "
            "trust their origin, save model.model.state_dict() as safetensors, or export to ONNX"
        )
    raise ValueError(f"{where}: expected ARCHITECTURE.yaml,WEIGHTS.safetensors or MODEL.onnx")


def _load(model: str, weights: str) -> Any:
    state = read_checkpoint(weights) if weights else None
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        from ultralytics import YOLO  # AGPL-3.0, and not always installed
    except ModuleNotFoundError as error:
        if error.name != "ultralytics":
            raise
        raise ImportError(
            "proposer ultralytics: the library is not installed; mind its licence, AGPL-3.0, then: "
            "pip install ultralytics"
        ) from None
    try:
        made = YOLO(model, task="detect")
    except (FileNotFoundError, SyntaxError, KeyError) as error:
        raise ValueError(f"proposer ultralytics:{model}: no such model: {error}") from None
    if state is not None:
        load_trained(made.model, state, weights)
        made.model.eval().requires_grad_(False)
    return made
