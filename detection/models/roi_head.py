"""The second stage of F-ViT: boxes classified by detector and frozen CLIP together."""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.models.utils import empty_instances
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import ConfigType, InstanceList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from detection.datasets.open_vocabulary import LABELLED
from fineclip.models.pooling import pool_boxes
from fineclip.parallel import share_of_rows


@MODELS.register_module()
class FViTRoIHead(StandardRoIHead):
    """mmdet's standard RoI head; at test time it also pools the dense CLIP map at each proposal.

    Its ``bbox_head`` must be an :class:`~detection.models.FViTBBoxHead`. A mask head is mmdet's
    ``FCNMaskHead`` with ``class_agnostic=True``.

    Attributes:
        clip_pooling: RoIAlign with a 1 x 1 output that stands in for
            :func:`fineclip.models.pooling.pool_boxes`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clip_pooling: nn.Module | None = None

    def loss(
        self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> dict[str, Tensor]:
        """Mmdet's losses; classes that were not labelled in an image take no part in its boxes'.

        Args:
            x: Levels of the neck, (B, C, h_i, w_i).
            rpn_results_list: Proposals of each image.
            batch_data_samples: The images' data samples, perhaps with the classes that were
                labelled in them (:data:`detection.datasets.LABELLED`).
        """
        labelled = [sample.metainfo.get(LABELLED) for sample in batch_data_samples]
        with self.bbox_head.labelled_in_images(labelled):
            return super().loss(x, rpn_results_list, batch_data_samples)

    def predict(
        self,
        x: tuple[Tensor, ...],
        rpn_results_list: InstanceList,
        batch_data_samples: SampleList,
        rescale: bool = False,
        *,
        clip_map: Tensor | None = None,
        patch_size: tuple[int, int] | None = None,
    ) -> InstanceList:
        """Detections of a batch.

        Args:
            x: Levels of the neck, (B, C, h_i, w_i).
            rpn_results_list: Proposals of each image, ``bboxes`` xyxy in pixels of the input.
            batch_data_samples: The images' data samples.
            rescale: Results in pixels of the original images instead of the input.
            clip_map: (B, D, h, w) dense map of the frozen CLIP. None: the detector's own
                probabilities alone are the scores.
            patch_size: (height, width) in pixels of a location of ``clip_map``.

        Returns:
            For each image ``bboxes`` (n, 4) xyxy in pixels, ``scores`` (n,), ``labels`` (n,) and,
            with a mask head, ``masks`` (n, H, W).
        """
        image_metas = [sample.metainfo for sample in batch_data_samples]
        results = self.predict_bbox(
            x,
            image_metas,
            rpn_results_list,
            self.test_cfg,
            rescale=rescale and not self.with_mask,  # the mask head rescales both
            clip_map=clip_map,
            patch_size=patch_size,
        )
        if self.with_mask:
            results = self.predict_mask(x, image_metas, results, rescale=rescale)
        return results

    def mask_loss(
        self,
        x: tuple[Tensor, ...],
        sampling_results: list[SamplingResult],
        bbox_feats: Tensor,
        batch_gt_instances: InstanceList,
    ) -> dict[str, Any]:
        """Mmdet's loss of the mask head, without the boxes that have no mask.

        It is this process's share of the mean over the masks of all processes.

        Args:
            x: Levels of the neck, (B, C, h_i, w_i).
            sampling_results: Of each image.
            bbox_feats: Features of all boxes, not used.
            batch_gt_instances: Of each image, with ``masks``; an empty one is none.

        Returns:
            ``loss_mask``, a dict of losses, among mmdet's other results.
        """
        sampling_results = [
            with_masks_alone(result, instances)
            for result, instances in zip(sampling_results, batch_gt_instances, strict=True)
        ]
        results = super().mask_loss(x, sampling_results, bbox_feats, batch_gt_instances)
        loss = results["loss_mask"]["loss_mask"]
        masks = sum(len(result.pos_priors) for result in sampling_results)
        results["loss_mask"]["loss_mask"] = loss * share_of_rows(masks, loss.device)
        return results

    def predict_bbox(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        rpn_results_list: InstanceList,
        rcnn_test_cfg: ConfigType,
        rescale: bool = False,
        *,
        clip_map: Tensor | None = None,
        patch_size: tuple[int, int] | None = None,
    ) -> InstanceList:
        """The boxes of :meth:`predict`, with the same arguments."""
        proposals = [result.bboxes for result in rpn_results_list]
        rois = bbox2roi(proposals)  # (R, 5) image index, xyxy in pixels
        if not len(rois):
            return empty_instances(
                batch_img_metas,
                rois.device,
                task_type="bbox",
                box_type=self.bbox_head.predict_box_type,
                num_classes=self.bbox_head.num_classes,
                score_per_cls=rcnn_test_cfg is None,
            )
        outputs = self._bbox_forward(x, rois)
        clip_features = None if clip_map is None else self.clip_features(clip_map, rois, patch_size)
        scores = self.bbox_head.class_probabilities(outputs["cls_score"], clip_features)
        counts = [len(boxes) for boxes in proposals]
        return self.bbox_head.predict_by_feat(
            rois=rois.split(counts),
            cls_scores=scores.split(counts),
            bbox_preds=outputs["bbox_pred"].split(counts),
            batch_img_metas=batch_img_metas,
            rcnn_test_cfg=rcnn_test_cfg,
            rescale=rescale,
        )

    def clip_features(
        self, clip_map: Tensor, rois: Tensor, patch_size: tuple[int, int] | None
    ) -> Tensor:
        """CLIP's own view of each box.

        Args:
            clip_map: (B, D, h, w) dense map of the frozen CLIP.
            rois: (R, 5) image index and xyxy in pixels of the input.
            patch_size: (height, width) in pixels of a location of ``clip_map``.

        Returns:
            (R, D), of any length.
        """
        if self.clip_pooling is not None:
            return self.clip_pooling(clip_map, rois).flatten(1)
        assert patch_size is not None, "a dense map comes with the size of its locations"
        height, width = (n * side for n, side in zip(clip_map.shape[-2:], patch_size, strict=True))
        boxes = rois[:, 1:] / rois.new_tensor([width, height, width, height])
        return pool_boxes(clip_map, boxes, rois[:, 0].long())


def with_masks_alone(result: SamplingResult, instances: InstanceData) -> SamplingResult:
    """The positive boxes of an image that were assigned to an instance with a mask.

    Args:
        result: What was sampled.
        instances: The annotated ones, with ``masks``.

    Returns:
        ``result`` itself if all have one, otherwise one that the mask head alone can use.
    """
    if not isinstance(instances.masks, BitmapMasks):
        return result  # polygons cannot be empty
    has_mask = torch.from_numpy(instances.masks.masks.any(axis=(1, 2)))
    if has_mask.all():
        return result
    assigned = result.pos_assigned_gt_inds
    kept = has_mask.to(assigned.device)[assigned]
    result = copy(result)
    for name in ("pos_priors", "pos_assigned_gt_inds", "pos_gt_labels"):
        setattr(result, name, getattr(result, name)[kept])
    return result
