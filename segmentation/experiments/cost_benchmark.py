"""Time, memory and operations of CAT-Seg, whole and of its aggregation network alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fineclip.experiments.measuring import autocast, count_flops, measure_cost, training_step
from fineclip.text import load_vocabulary
from segmentation.experiments.networks import NETWORKS
from segmentation.modeling import build_segmenter
from segmentation.modeling.aggregator import CostAggregator
from segmentation.modeling.windows import SlidingWindows


def segmenter_cost(
    model: str,
    *,
    training: bool,
    batch: int,
    image_size: Sequence[int],
    grid: int = 24,
    train_vocabulary: str = "coco_stuff171",
    vocabulary: str = "ade150",
    network: str = "released",
    steps: int = 3,
    amp: str | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measures inference with sliding windows or an optimizer step, with random weights and pixels.

    Args:
        model: Name of a CLIP model.
        training: An optimizer step; otherwise inference.
        batch: Images.
        image_size: (height, width) in pixels.
        grid: Side of CLIP's input in patches.
        train_vocabulary: Classes of training.
        vocabulary: Classes of inference, encoded beforehand.
        network: One of :data:`segmentation.experiments.networks.NETWORKS`.
        steps: Calls whose time is taken.
        amp: "bf16" or "fp16" autocast; None: float32.
        device: A torch device.

    Returns:
        Figures of :func:`fineclip.experiments.measuring.measure_cost`, and ``model_flops``.

    Raises:
        ValueError: An unknown model or vocabulary.
    """
    place = torch.device(device)
    height, width = image_size
    names = load_vocabulary(train_vocabulary).names
    segmenter = build_segmenter(
        model,
        train_classes=names,
        test_classes=load_vocabulary(vocabulary).names,
        grid=(grid, grid),
        segmenter={"windows": SlidingWindows()},
        pooling_size=(2, 2) if training else (1, 1),
        **NETWORKS[network],
    )
    segmenter.to(place).train(training)
    images = [torch.randint(0, 256, (3, height, width), dtype=torch.uint8) for _ in range(batch)]
    labels = [torch.randint(0, len(names), (height, width)) for _ in range(batch)]

    def infer() -> None:
        with autocast(place, amp):
            segmenter.predict_labels(images)

    if training:
        run = training_step(segmenter, lambda: segmenter.loss(images, labels), place, amp)
    else:
        run = infer
        segmenter.requires_grad_(False)  # the counter stumbles over views of parameters
        with torch.no_grad(), autocast(place, amp):
            segmenter.sem_seg_head.predictor.text(segmenter.sem_seg_head.test_classes)
    flops = count_flops(run)
    return {**measure_cost(run, place, steps=steps), "model_flops": flops}


def aggregation_cost(
    classes: int,
    *,
    grid: int = 24,
    width: int = 512,
    pad_length: int = 256,
    network: str = "released",
    steps: int = 3,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measures the aggregation network at inference on one image.

    Args:
        classes: Size of the vocabulary.
        grid: Side of the cost volume.
        width: Of the embeddings.
        pad_length: Classes of an image that are aggregated at most; 0: all.
        network: One of :data:`segmentation.experiments.networks.NETWORKS`.
        steps: Calls whose time is taken.
        device: A torch device.

    Returns:
        Figures of :func:`fineclip.experiments.measuring.measure_cost`.
    """
    place = torch.device(device)
    options: dict[str, Any] = {
        "decoder_guidance_dims": (256, 128),
        "pooling_size": (1, 1),
        **NETWORKS[network],
    }
    aggregator = CostAggregator(
        text_guidance_dim=width, appearance_guidance_dim=width, pad_length=pad_length, **options
    )
    aggregator.to(place).eval()
    channels = (width, width, *options["decoder_guidance_dims"])
    image, *guidance = (
        torch.randn(1, number, scale * grid, scale * grid, device=place)
        for number, scale in zip(channels, (1, 1, 2, 4), strict=True)
    )
    text = torch.randn(classes, 1, width, device=place)

    @torch.no_grad()
    def run() -> None:
        aggregator(image, text, guidance)

    run()
    return measure_cost(run, place, steps=steps)
