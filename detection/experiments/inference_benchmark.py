"""Where a detector spends its time on an image."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.utils import import_modules_from_strings

from fineclip.engine import explaining_errors
from fineclip.experiments.measuring import autocast, synchronize

STAGES = {
    "trunk": "blocks of the frozen CLIP: four taps and the dense map, one pass",
    "pyramid": "upsampling of the taps, FPN",
    "RPN": "its convolutions, decoding, NMS",
    "RoI": "RoIAlign, box head, NMS of the detections",
    "fusion": "pooling of the dense map, both softmaxes, geometric mean",
    "other": "normalising, padding, results",
}


def benchmark_inference(
    config: Config,
    *,
    image_size: tuple[int, int] = (640, 640),
    batch: int = 1,
    classes: int | None = None,
    repeats: int = 5,
    amp: str | None = None,
    device: str | torch.device = "cpu",
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measures the stages of a detector on random pictures.

    Weights and class embeddings are random: neither changes what has to be computed, but
    the number of proposals, which is reported, is one that a trained RPN may undercut.

    Args:
        config: Config of an F-ViT.
        image_size: (height, width) in pixels.
        batch: Images at a time.
        classes: Size of the vocabulary; None: as the config says.
        repeats: Measured passes; the median of each stage is kept.
        amp: ``"bf16"``, ``"fp16"`` or None for float32.
        device: Where it runs.
        report: Called with a line per pass.

    Returns:
        ``seconds`` per image by stage, their ``shares``, ``total`` seconds per image and
        ``proposals`` per image. Texts are no stage: a detector has no text tower.

    Raises:
        ValueError: A config that is no F-ViT's.
    """
    with explaining_errors(config):
        model = random_detector(config, classes).to(device)
    model.fuse_for_inference()
    rng = np.random.default_rng(0)
    pictures = [
        torch.from_numpy(rng.integers(0, 256, (3, *image_size), dtype=np.uint8))
        for _ in range(batch)
    ]
    passes: list[dict[str, float]] = []
    watch = _Stopwatch(torch.device(device))
    _watch_stages(model, watch)
    for number in range(repeats + 1):
        with torch.inference_mode(), autocast(torch.device(device), amp):
            passes.append(_measured(model, pictures, watch))
        report(f"pass {number} of {repeats}: {sum(passes[-1].values()):.2f} s")
    seconds = {  # the first one warms up
        stage: float(np.median([found[stage] for found in passes[1:]])) / batch for stage in STAGES
    }
    total = sum(seconds.values())
    return {
        "seconds": seconds,
        "shares": {stage: value / total for stage, value in seconds.items()},
        "total": total,
        "proposals": watch.proposals / batch,
    }


def format_split(result: dict[str, Any]) -> str:
    """The result of :func:`benchmark_inference` as a Markdown table."""
    lines = ["| stage | ms / image | share | what |", "|---|---|---|---|"]
    for stage, what in STAGES.items():
        milliseconds, share = 1000 * result["seconds"][stage], 100 * result["shares"][stage]
        lines.append(f"| {stage} | {milliseconds:.0f} | {share:.0f} % | {what} |")
    lines.append(
        f"| total | {1000 * result['total']:.0f} | | {result['proposals']:.0f} proposals |"
    )
    return "\n".join(lines)


class _Stopwatch:
    """Adds up the seconds of functions; time of a function inside another counts once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.proposals = 0
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def now(self) -> float:
        synchronize(self.device)
        return time.perf_counter()

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = self.now()
            self._inner.append(0.0)
            result = function(*args, **kwargs)
            whole = self.now() - start
            self.seconds[stage] += whole - self._inner.pop()
            self._inner[-1] += whole
            return result

        return call


def _watch_stages(model: Any, watch: _Stopwatch) -> None:
    """Times the calls that the stages consist of."""
    rpn = model.rpn_head.predict

    def count(*args: Any, **kwargs: Any) -> Any:
        proposals = rpn(*args, **kwargs)
        watch.proposals = sum(len(found) for found in proposals)
        return proposals

    for stage, owner, name, function in (
        ("trunk", model.backbone.trunk, "forward_taps", None),
        ("pyramid", model.backbone, "forward_with_dense", None),
        ("pyramid", model.neck, "forward", None),
        ("RPN", model.rpn_head, "predict", count),
        ("RoI", model.roi_head, "predict", None),
        ("fusion", model.roi_head, "clip_features", None),
        ("fusion", model.roi_head.bbox_head, "class_probabilities", None),
    ):
        setattr(owner, name, watch.timed(stage, function or getattr(owner, name)))


def _measured(model: Any, pictures: Sequence[torch.Tensor], watch: _Stopwatch) -> dict[str, float]:
    watch.seconds.clear()
    samples = []
    for picture in pictures:
        shape = tuple(picture.shape[-2:])
        meta = {"img_shape": shape, "ori_shape": shape, "scale_factor": (1.0, 1.0)}
        samples.append(DetDataSample(metainfo=meta))
    watch.timed("other", model.test_step)({"inputs": list(pictures), "data_samples": samples})
    return dict(watch.seconds)


def random_detector(config: Config, classes: int | None) -> Any:
    """An F-ViT with random weights and class embeddings.

    Args:
        config: Of the detector.
        classes: Size of the vocabulary; None: as the config says.

    Raises:
        ValueError: A config that is no F-ViT's.
    """
    config = config.copy()
    if config.model.get("type") != "FViT":
        raise ValueError(f"{config.filename}: expected the config of an FViT")
    import_modules_from_strings(**config.custom_imports)
    config.model.backbone.pretrained = None
    head = config.model.roi_head.bbox_head
    head.class_embeddings = None
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(config.model)
    number = classes or model.roi_head.bbox_head.num_classes
    embeddings = torch.randn(number + 1, model.backbone.embed_dim)
    model.set_vocabulary(
        [f"class {i}" for i in range(number)], embeddings[:-1], background=embeddings[-1]
    )
    return model
