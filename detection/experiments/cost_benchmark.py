"""Time, memory and operations of an F-ViT, whole and of its classifier alone."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor

from detection.experiments.inference_benchmark import random_detector
from fineclip.engine import explaining_errors, load_config
from fineclip.experiments.measuring import autocast, count_flops, measure_cost, training_step
from fineclip.text import as_vocabulary

_OBJECTS = 7  # of an image: COCO's mean


def detector_cost(
    config: str,
    *,
    training: bool,
    batch: int,
    image_size: int,
    steps: int = 3,
    amp: str | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measures inference or an optimizer step on random square pictures, with random weights.

    Args:
        config: Config of an F-ViT.
        training: An optimizer step; otherwise inference.
        batch: Images.
        image_size: Side in pixels.
        steps: Calls whose time is taken.
        amp: "bf16" or "fp16" autocast; None: float32.
        device: A torch device.

    Returns:
        Figures of :func:`fineclip.experiments.measuring.measure_cost`, and ``model_flops``.

    Raises:
        ValueError: A config that is no F-ViT's.
    """
    settings, place = load_config(config, {"pretrained": None}), torch.device(device)
    with explaining_errors(settings):
        model = random_detector(settings, None).to(place).train(training)
    label = as_vocabulary(settings.vocabulary).indices("base")[0]
    data = {
        "inputs": [
            torch.randint(0, 256, (3, image_size, image_size), dtype=torch.uint8)
            for _ in range(batch)
        ],
        "data_samples": [_sample(image_size, label) for _ in range(batch)],
    }

    def infer() -> None:
        with torch.inference_mode(), autocast(place, amp):
            model.test_step(data)

    def loss() -> Tensor:
        losses = model(**model.data_preprocessor(data, training=True), mode="loss")
        return model.parse_losses(losses)[0]

    if training:
        run = training_step(model, loss, place, amp)
    else:
        run = infer
        model.fuse_for_inference()
    flops = count_flops(run)
    return {**measure_cost(run, place, steps=steps), "model_flops": flops}


def _sample(side: int, label: int) -> DetDataSample:
    meta = {"img_shape": (side, side), "ori_shape": (side, side), "scale_factor": (1.0, 1.0)}
    sample = DetDataSample(metainfo=meta)
    corners = torch.rand(_OBJECTS, 2) * side / 2
    sample.gt_instances = InstanceData(
        bboxes=torch.cat([corners, corners + side / 3], dim=1),
        labels=torch.full((_OBJECTS,), label),
    )
    sample.ignored_instances = InstanceData(
        bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64)
    )
    return sample


def score_cost(
    classes: int, *, boxes: int = 1000, width: int = 512, steps: int = 3, device: str = "cpu"
) -> dict[str, Any]:
    """Measures F-ViT's scores of the boxes of an image: both softmaxes and their geometric mean.

    Args:
        classes: Size of the vocabulary.
        boxes: Proposals of the image.
        width: Of the embeddings.
        steps: Calls whose time is taken.
        device: A torch device.

    Returns:
        Figures of :func:`fineclip.experiments.measuring.measure_cost`.
    """
    with DefaultScope.overwrite_default_scope("mmdet"):
        head = MODELS.build(
            {
                "type": "FViTBBoxHead",
                "num_classes": classes,
                "in_channels": 8,
                "conv_out_channels": 8,
                "fc_out_channels": width,
                "loss_cls": {"type": "CrossEntropyLoss"},
                "novel_classes": range(0, classes, 3),
            }
        )
    embeddings = torch.randn(classes + 1, width)
    head.set_vocabulary(embeddings[:-1], background=embeddings[-1])
    head.to(device)
    features = torch.randn(boxes, width, device=device)

    @torch.no_grad()
    def run() -> None:
        direction = torch.nn.functional.normalize(features, dim=1)
        head.class_probabilities(head.temperature * (direction @ head.text_embeddings), features)

    run()
    return measure_cost(run, torch.device(device), steps=steps)
