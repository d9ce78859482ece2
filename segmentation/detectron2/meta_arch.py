"""``CATSeg`` in detectron2's registry of meta-architectures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_sem_seg_head
from torch import Tensor

from segmentation.modeling.predictor import SegmentationHead
from segmentation.modeling.segmenter import Segmenter
from segmentation.modeling.windows import SlidingWindows


@META_ARCH_REGISTRY.register()
class CATSeg(Segmenter):
    """:class:`Segmenter` as detectron2 calls models: lists of dicts in, losses or results out.

    Args:
        sem_seg_head: CLIP and the aggregation network.
        trained_parts: Names that parameters which train begin with; all others are frozen. None
            given: as the parts say themselves.
        **segmenter: Arguments of :class:`Segmenter`.

    Raises:
        ValueError: No parameter begins with one of these names.
    """

    @configurable
    def __init__(
        self,
        sem_seg_head: SegmentationHead,
        *,
        trained_parts: Sequence[str] = (),
        **segmenter: Any,
    ) -> None:
        super().__init__(sem_seg_head, **segmenter)
        names = [name for name, _ in self.named_parameters()]
        for part in trained_parts:
            if not any(name.startswith(part) for name in names):
                raise ValueError(f"MODEL.TRAINED_PARTS: no parameter begins with {part!r}")
        for name, parameter in self.named_parameters():
            if trained_parts and not name.startswith(tuple(trained_parts)):
                parameter.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Reads ``MODEL`` and ``TEST``."""
        head = build_sem_seg_head(cfg, None)
        patch = head.predictor.trunk.patch_size
        grid = cfg.MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION
        windows = None
        if cfg.TEST.SLIDING_WINDOW:
            windows = SlidingWindows(
                tuple(cfg.TEST.SLIDING_WINDOW_CANVAS),
                cfg.TEST.SLIDING_WINDOW_SIZE,
                cfg.TEST.SLIDING_WINDOW_OVERLAP,
            )
        return {
            "sem_seg_head": head,
            "trained_parts": cfg.MODEL.TRAINED_PARTS,
            "upsample_dims": cfg.MODEL.SEM_SEG_HEAD.DECODER_GUIDANCE_DIMS,
            "clip_resolution": (grid[0] * patch[0], grid[1] * patch[1]),
            "pixel_mean": cfg.MODEL.CLIP_PIXEL_MEAN,
            "pixel_std": cfg.MODEL.CLIP_PIXEL_STD,
            "size_divisibility": cfg.MODEL.MASK_FORMER.SIZE_DIVISIBILITY,
            "ignored_as_negatives": cfg.MODEL.SEM_SEG_HEAD.IGNORED_AS_NEGATIVES,
            "classes_per_step": cfg.MODEL.SEM_SEG_HEAD.CLASSES_PER_STEP,
            "windows": windows,
            "memory_budget": cfg.TEST.MEMORY_BUDGET_MB * 1024**2,
        }

    def forward(  # type: ignore[override]  # detectron2's way to call a model
        self, batched_inputs: list[dict[str, Any]]
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Trains or answers.

        Args:
            batched_inputs: One dict per image. ``image``: (3, H, W) RGB in 0..255. In training
                ``sem_seg``: (H, W) int64 labels, and perhaps ``train_classes``, what they count,
                the same for all images. Otherwise ``height`` and ``width``, in pixels, of
                the result; by default the image's, or the canvas's with sliding windows.

        Returns:
            In training ``{"loss_sem_seg": ()}``, otherwise one dict per image with ``sem_seg``:
            (T, height, width) probabilities of the test classes.
        """
        images = [x["image"] for x in batched_inputs]
        if self.training:
            labels, names = [x["sem_seg"] for x in batched_inputs], batched_inputs[0]
            return {"loss_sem_seg": self.loss(images, labels, names.get("train_classes"))}
        sizes = [
            (x["height"], x["width"]) if "height" in x and "width" in x else None
            for x in batched_inputs
        ]
        return [{"sem_seg": scores} for scores in self.predict(images, sizes)]
