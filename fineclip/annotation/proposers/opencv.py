"""Detectors that OpenCV's dnn module runs: SSD and Faster R-CNN of TensorFlow, Caffe or ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from fineclip.annotation.interfaces import Proposals
from fineclip.annotation.pretrained import require_name
from fineclip.annotation.proposers.found import (
    SCORE_THRESHOLD,
    Words,
    as_rgb,
    checked_threshold,
    found_in,
)
from fineclip.checks import integer_from
from fineclip.files import require_file
from fineclip.models.class_embedding_files import weights_identity
from fineclip.text import as_vocabulary

_COLUMNS = 7
"""Of a detection: image, class, score, and two corners as shares of width and height."""


class OpenCVProposer:
    """A detector on the CPU; see :class:`fineclip.annotation.interfaces.Proposer`.

    Args:
        argument: ``GRAPH.pb,CONFIG.pbtxt``, ``MODEL.caffemodel,CONFIG.prototxt`` or ``MODEL.onnx``,
            whose output is a list of detections (1, 1, n, 7).
        vocabulary: Names of its classes: by id where the vocabulary has ids, else by place from 0
            on. None: boxes have no names.
        score_threshold: What is less certain is left out.
        side: Pixels of the network's square input.
        scale: Factor of pixel values, after the mean is subtracted.
        mean: Of red, green and blue.

    Raises:
        ValueError: OpenCV cannot read the files.
        FileNotFoundError: A file does not exist.
    """

    needs_images = True

    def __init__(
        self,
        argument: str,
        *,
        vocabulary: Words | None = None,
        score_threshold: float = SCORE_THRESHOLD,
        side: int = 300,
        scale: float = 1.0,
        mean: Sequence[float] = (0, 0, 0),
    ) -> None:
        model, _, config = require_name(argument, "opencv").partition(",")
        for file in filter(None, (model, config)):
            require_file(file, "proposer opencv")
        integer_from(1).require(side, "side")
        try:
            self._network = cv2.dnn.readNet(model, config)
        except cv2.error as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"proposer opencv: {model} cannot be read: {reason:.200}") from None
        self._side, self._scale, self._mean = side, scale, tuple(mean)
        self._threshold = checked_threshold(score_threshold)
        words = None if vocabulary is None else as_vocabulary(vocabulary)
        self._names: dict[int, str] = {}
        if words is not None:
            by_place = dict(enumerate(words.names))
            ids = {id_: words.names[place] for id_, place in words.index_of_id.items()}
            self._names = ids or by_place
        self.categories = tuple(self._names.values())
        self.identity = f"opencv:{Path(model).name}@{weights_identity('', model)}"

    def propose(
        self, images: Sequence[Image.Image | None], keys: Sequence[str], known: Sequence[Proposals]
    ) -> list[Proposals]:
        """Boxes of some images."""
        return [self._boxes(image) for image in as_rgb(images)]

    def _boxes(self, image: Image.Image) -> Proposals:
        size = (self._side, self._side)
        blob = cv2.dnn.blobFromImage(np.asarray(image), self._scale, size, self._mean)
        self._network.setInput(blob)
        found = np.asarray(self._network.forward())
        if found.ndim != 4 or found.shape[-1] != _COLUMNS:
            raise ValueError(
                f"proposer opencv: expected a list of detections, (1, 1, n, {_COLUMNS}), from the "
                f"network, got {found.shape}; only models that end with that are supported"
            )
        found = found.reshape(-1, _COLUMNS)
        found = found[found[:, 2] >= self._threshold]
        names = [self._names.get(int(label), "") for label in found[:, 1]]
        boxes = found[:, 3:] * np.array([*image.size, *image.size], np.float32)
        return found_in(image, boxes, found[:, 2], names)
