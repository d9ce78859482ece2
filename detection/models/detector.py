"""F-ViT: a two-stage detector on a frozen CLIP."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from mmcv.ops import RoIAlign
from mmdet.models.detectors import TwoStageDetector
from mmdet.models.necks import FPN
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from mmengine.config import ConfigDict
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detection.models.backbone import FViTBackbone
from detection.models.fusing import fuse_batch_norms, fuse_upsampling, fuse_upsampling_norm
from detection.models.samplers import seed_sampling
from detection.models.sparse_roi_align import SparseRoIAlign
from fineclip.checkpoints.conversion import convert_source
from fineclip.checkpoints.source import source_from
from fineclip.parallel import mean_over_processes, world_size


@MODELS.register_module()
class FViT(TwoStageDetector):
    """Open-vocabulary two-stage detector on a frozen CLIP image tower (CLIPSelf, sec. 4.2).

    mmdet's two-stage detector; at test time the tower's dense map, from the same pass as the
    pyramid, is handed to the RoI head as well. A state dict in the naming of the release (mmdet
    2.x, EVA-CLIP tower) is converted as it is loaded.

    Args:
        backbone: An :class:`~detection.models.FViTBackbone`.
        neck: mmdet's ``FPN``.
        rpn_head: mmdet's ``RPNHead`` or :class:`~detection.models.FViTRPNHead`.
        roi_head: An :class:`~detection.models.FViTRoIHead`.
        train_cfg: As for mmdet's ``TwoStageDetector``.
        test_cfg: Likewise.
        data_preprocessor: mmdet's ``DetDataPreprocessor``; released weights want ImageNet's pixel
            mean and std and RGB. Its ``pad_size_divisor`` makes sides multiples of the patch.
        init_cfg: mmengine's initialisation.
        trained_parts: Names that parameters which train begin with, such as
            ``"roi_head.bbox_head.cls_fcs"``; all others are frozen, batch norms with them. None:
            all but the image tower train.
        norm_eval: Batch norms keep the statistics that they have, and use them while the rest
            trains: for weights that were trained before, on batches too small for statistics.
        padding: ``"square"``: what the data preprocessor says; with its ``pad_size_divisor`` the
            largest side of an image, as in the release, every image becomes that square. ``"own"``:
            an image is padded only as far as the pyramid's coarsest level needs, and in training
            to the largest of its batch; ``pad_size_divisor`` is replaced.

    Raises:
        ValueError: Strides, channels or embedding widths of the parts that contradict each other,
            or another ``padding``.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        neck: Mapping[str, Any],
        rpn_head: Mapping[str, Any],
        roi_head: Mapping[str, Any],
        train_cfg: Mapping[str, Any] | None = None,
        test_cfg: Mapping[str, Any] | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: dict | list[dict] | None = None,
        *,
        trained_parts: Sequence[str] | None = None,
        norm_eval: bool = False,
        padding: Literal["square", "own"] = "square",
    ) -> None:
        super().__init__(
            backbone=backbone,
            neck=neck,
            rpn_head=rpn_head,
            # mmdet writes its settings into this one.
            roi_head=ConfigDict(roi_head),
            train_cfg=None if train_cfg is None else ConfigDict(train_cfg),
            test_cfg=None if test_cfg is None else ConfigDict(test_cfg),
            data_preprocessor=data_preprocessor,
            init_cfg=init_cfg,
        )
        self.norm_eval = norm_eval
        if trained_parts is not None:
            self._train_alone(tuple(trained_parts))
        self._warned_of_statistics = False
        self._check_parts()
        if padding not in ("square", "own"):
            raise ValueError(f"model.padding is {padding!r}; known: square, own")
        if padding == "own":
            self.pad_to_own_size()

    def _check_parts(self) -> None:
        """Finds what would otherwise fail late, or not at all and detect nothing."""
        if not isinstance(self.backbone, FViTBackbone):
            raise ValueError(f"FViT needs an FViTBackbone, got {type(self.backbone).__name__}")
        strides = self.backbone.strides
        expected = tuple(self.neck.in_channels)
        if expected != self.backbone.out_channels:
            raise ValueError(
                f"neck.in_channels is {expected}; the backbone's levels have "
                f"{self.backbone.out_channels} channels"
            )
        of_parts = {"rpn_head.anchor_generator.strides": _first(self.rpn_head.prior_generator)}
        of_parts["roi_head.bbox_roi_extractor.featmap_strides"] = list(
            self.roi_head.bbox_roi_extractor.featmap_strides
        )
        if self.roi_head.with_mask:
            of_parts["roi_head.mask_roi_extractor.featmap_strides"] = list(
                self.roi_head.mask_roi_extractor.featmap_strides
            )
        for name, found in of_parts.items():
            shared = min(len(found), len(strides))
            if list(found[:shared]) != list(strides[:shared]):
                raise ValueError(
                    f"{name} is {list(found)}, but the levels of the backbone have the strides "
                    f"{list(strides)} (patch {self.backbone.patch_size[0]})"
                )
        width = self.roi_head.bbox_head.embed_dim
        if width != self.backbone.embed_dim:
            raise ValueError(
                f"roi_head.bbox_head.fc_out_channels is {width}; it must be the width of the "
                f"CLIP's embedding, {self.backbone.embed_dim}"
            )

    def _train_alone(self, parts: tuple[str, ...]) -> None:
        names = [name for name, _ in self.named_parameters()]
        for part in parts:
            if not any(name.startswith(part) for name in names):
                raise ValueError(
                    f"model.trained_parts: no parameter begins with {part!r}; the parts are "
                    f"{', '.join(sorted({'.'.join(name.split('.')[:3]) for name in names}))}"
                )
        for name, parameter in self.named_parameters():
            if not name.startswith(parts):
                parameter.requires_grad_(False)
        self.norm_eval = True

    def train(self, mode: bool = True) -> FViT:
        """Training mode, except where ``norm_eval`` holds it off.

        Warns, once, of batch norms that train on several processes without a common batch.
        """
        super().train(mode)
        norms = [part for part in self.modules() if isinstance(part, _BatchNorm)]
        if mode and self.norm_eval:
            for norm in norms:
                norm.eval()
        separate = any(norm.training and not isinstance(norm, nn.SyncBatchNorm) for norm in norms)
        if separate and world_size() > 1 and not self._warned_of_statistics:
            self._warned_of_statistics = True
            print_log(
                f"batch norms of {world_size()} processes each use the statistics of their own "
                "images, not of the whole batch: set sync_bn=torch (GPUs), or norm_eval=True, to "
                "keep the statistics of the start weights",
                "current",
                logging.WARNING,
            )
        return self

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict:
        """Losses of a batch: this process's shares of those of the batch of all processes.

        Args:
            batch_inputs: (B, 3, H, W) normalised, sides multiples of the patch.
            batch_data_samples: The images' data samples, with their annotated instances.

        Returns:
            By name (), or a list of them, one per level. Their means over processes, which
            DistributedDataParallel takes of gradients, are the losses.
        """
        seed_sampling(batch_data_samples)
        return super().loss(batch_inputs, batch_data_samples)

    def parse_losses(self, losses: dict) -> tuple[Tensor, dict[str, Tensor]]:
        """The share of the loss that is to be differentiated, and what is logged: whole losses."""
        total, logged = super().parse_losses(losses)
        means = mean_over_processes(torch.stack([value.detach() for value in logged.values()]))
        return total, dict(zip(logged, means, strict=True))

    def val_step(self, data: dict[str, Any]) -> SampleList:
        """Detections of a batch as its data loader gives it; see :meth:`test_step`."""
        return self.test_step(data)

    def test_step(self, data: dict[str, Any]) -> SampleList:
        """Detections of a batch as its data loader gives it, each image's as if it were alone.

        Padding takes part in the tower's attention. So images that are padded to one size run
        together, and others by themselves, instead of all being padded to the largest.

        Args:
            data: ``inputs``: (3, h, w) pixels each; ``data_samples``: as many.
        """
        found: dict[int, Any] = {}
        divisor = self.data_preprocessor.pad_size_divisor
        for indices in _of_equal_size(data["inputs"], divisor):
            part = {key: [values[index] for index in indices] for key, values in data.items()}
            found.update(zip(indices, super().test_step(part), strict=True))
        return [found[index] for index in range(len(found))]

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """The neck's levels.

        Args:
            batch_inputs: (B, 3, H, W) normalised, sides multiples of the patch.

        Returns:
            (B, C, h_i, w_i) float32 maps, finest first.
        """
        return self._neck(self.backbone(batch_inputs))

    def _neck(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # Also under autocast: mmdet rounds the boxes it pools to the maps' precision, by half a
        # pixel or more, and mmcv's RoIAlign has no bfloat16.
        return tuple(level.float() for level in self.neck(levels))

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """Detections of a batch, in the data samples' ``pred_instances``.

        Args:
            batch_inputs: (B, 3, H, W) normalised, sides multiples of the patch.
            batch_data_samples: The images' data samples; ``proposals`` in them replace the RPN's.
            rescale: Boxes and masks in pixels of the original images instead of the input.
        """
        levels, clip_map = self.backbone.forward_with_dense(batch_inputs)
        features = self._neck(levels)
        if batch_data_samples[0].get("proposals", None) is None:
            proposals = self.rpn_head.predict(features, batch_data_samples, rescale=False)
        else:
            proposals = [sample.proposals for sample in batch_data_samples]
        results = self.roi_head.predict(
            features,
            proposals,
            batch_data_samples,
            rescale=rescale,
            clip_map=clip_map,
            patch_size=self.backbone.patch_size,
        )
        return self.add_pred_to_datasample(batch_data_samples, results)

    def set_vocabulary(
        self,
        class_names: Sequence[str],
        class_embeddings: Tensor,
        *,
        novel_classes: Sequence[str | int] | None = None,
        background: Tensor | None = None,
    ) -> None:
        """Changes the classes to detect, and how many there are, without training.

        Also sets ``dataset_meta["classes"]``, where mmdet's visualisers look for names.

        Args:
            class_names: The K' names.
            class_embeddings: (K', D) their text embeddings.
            novel_classes: See :meth:`detection.models.FViTBBoxHead.set_vocabulary`, also for the
                rest.
            background: (D,) text embedding of the background; None: as it is.
        """
        self.roi_head.bbox_head.set_vocabulary(
            class_embeddings, class_names, novel_classes=novel_classes, background=background
        )
        if self.roi_head.with_mask:
            self.roi_head.mask_head.num_classes = len(class_names)
        meta = {k: v for k, v in getattr(self, "dataset_meta", {}).items() if k != "palette"}
        self.dataset_meta = {**meta, "classes": tuple(class_names)}

    def pad_to_own_size(self) -> None:
        """Pads images from now on as ``padding="own"`` does."""
        # Also what pooling halves: the FPN enlarges it back to just twice its size.
        self.data_preprocessor.pad_size_divisor = round(self.backbone.strides[-1])

    def compile_parts(self, **options: Any) -> None:
        """Runs blocks, neck and heads through ``torch.compile``, from their next call on.

        Args:
            **options: Of ``torch.compile``.
        """
        for block in self.backbone.trunk.stages:
            block.compile(**options)
        for part in (self.neck, self.rpn_head):
            part.compile(**options)
        self.roi_head.bbox_head.compile(dynamic=True, **options)  # as many boxes as there are

    def fuse_for_inference(self) -> None:
        """Fuses layers that are linear together: the same detections, with less work.

        For good: a fused detector does not train, and its state dict is its own.
        """
        self.requires_grad_(False).eval()
        fuse_batch_norms(self.neck, self.rpn_head, self.roi_head)
        fuse_upsampling_norm(self.backbone)
        if isinstance(self.neck, FPN):
            fuse_upsampling(self.backbone, self.neck)
        if next(self.parameters()).device.type == "cpu":
            self._prefer_cpu_layouts()

    def _prefer_cpu_layouts(self) -> None:
        # The stacks of convolutions whose inputs are hundreds of small maps.
        self.roi_head.bbox_head.shared_convs.to(memory_format=torch.channels_last)
        if self.roi_head.with_mask:
            self.roi_head.mask_head.to(memory_format=torch.channels_last)
        extractors = [self.roi_head.bbox_roi_extractor]
        if self.roi_head.with_mask:
            extractors.append(self.roi_head.mask_roi_extractor)
        for layers in (extractor.roi_layers for extractor in extractors):
            for index, layer in enumerate(layers):
                if isinstance(layer, RoIAlign) and layer.pool_mode == "avg":
                    layers[index] = SparseRoIAlign(layer)
        per_pixel = 1 / self.backbone.patch_size[0]
        self.roi_head.clip_pooling = SparseRoIAlign(RoIAlign(1, per_pixel, sampling_ratio=0))

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if f"{prefix}backbone.visual.cls_token" in state_dict:
            release = {
                key.removeprefix(prefix): state_dict.pop(key)
                for key in list(state_dict)
                if key.startswith(prefix)
            }
            converted = convert_source(source_from(release, "released F-ViT"), to="fvit").tensors
            state_dict.update({f"{prefix}{key}": value for key, value in converted.items()})
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _of_equal_size(images: Sequence[Tensor], divisor: int) -> list[list[int]]:
    """Places of images that are padded to the same size, in the order of the first of each."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        size = tuple(-(-side // divisor) for side in image.shape[-2:])
        places.setdefault(size, []).append(place)
    return list(places.values())


def _first(prior_generator: Any) -> list[float]:
    """Horizontal strides of the anchors."""
    return [stride[0] for stride in prior_generator.strides]
