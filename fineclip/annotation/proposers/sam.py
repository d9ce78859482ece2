"""Boxes around the masks of a mask generator: SAM, SAM 2, SAM-HQ and the like of transformers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from fineclip.annotation.interfaces import Proposals
from fineclip.annotation.pretrained import (
    ComputeOptions,
    identity_of,
    load_config,
    load_model,
    load_processor,
    require_name,
)
from fineclip.annotation.proposers.found import (
    as_rgb,
    checked_threshold,
    found_in,
    no_proposals,
)


class MaskProposer:
    """Everything that a mask generator finds; see :class:`fineclip.annotation.interfaces.Proposer`.

    Args:
        argument: Name of a model on the Hub, or a folder, with safetensors.
        points_per_side: The grid of points that it is asked about has this many rows and columns.
        points_per_batch: Points at a time.
        score_threshold: Predicted quality (IoU) that a mask must have.
        stability_threshold: Share of a mask that must stay as its threshold moves.
        device: See :class:`fineclip.annotation.pretrained.ComputeOptions`.
        amp: See there.

    Raises:
        ValueError: There is no such model, or it generates no masks.
        ImportError: transformers is not installed.
    """

    needs_images = True
    categories: Sequence[str] = ()

    def __init__(
        self,
        argument: str,
        *,
        points_per_side: int = 32,
        points_per_batch: int = 64,
        score_threshold: float = 0.88,
        stability_threshold: float = 0.95,
        device: str | None = None,
        amp: str | None = None,
    ) -> None:
        import transformers  # an optional library, and seconds to load

        name = require_name(argument, "sam")
        self._compute = ComputeOptions(device, amp)
        self._points = points_per_side
        self._options = {
            "points_per_batch": points_per_batch,
            "pred_iou_thresh": checked_threshold(score_threshold),
            "stability_score_thresh": stability_threshold,
        }
        config = load_config(name)
        if type(config) not in transformers.MODEL_FOR_MASK_GENERATION_MAPPING:
            raise ValueError(
                f"proposer sam:{name}: a model of type {config.model_type!r} generates no masks"
            )
        model = load_model(transformers.AutoModelForMaskGeneration, name, self._compute.device)
        self._generate = transformers.pipeline(
            "mask-generation",
            model=model,
            image_processor=load_processor(transformers.AutoImageProcessor, name),
            device=self._compute.device,
        )
        self.identity = f"sam:{identity_of(name, config)}"

    def propose(
        self, images: Sequence[Image.Image | None], keys: Sequence[str], known: Sequence[Proposals]
    ) -> list[Proposals]:
        """Boxes of some images, one after the other: a single one fills the model with points."""
        return [self._boxes(image) for image in as_rgb(images)]

    def _boxes(self, image: Image.Image) -> Proposals:
        with torch.inference_mode(), self._compute.autocast():
            found = self._generate(
                image, points_per_crop=self._points, output_bboxes_mask=True, **self._options
            )
        if not len(found["scores"]):
            return no_proposals()
        boxes = torch.stack([torch.as_tensor(box) for box in found["bounding_boxes"]]).float()
        boxes[:, 2:] += 1  # the last pixel of a mask, whose far edges are meant
        scores: Tensor = found["scores"]
        return found_in(image, boxes, scores, [""] * len(scores))
