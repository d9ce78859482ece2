"""Where a detector spends its time on an image, and what its options change.

Modes run in one process, a pass of each in turn, so that what else the machine does meets all of
them alike. Their answers for the same proposals are compared.
"""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from mmdet.models.layers import multiclass_nms
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from mmengine.utils import import_modules_from_strings

from fineclip.engine import explaining_errors
from fineclip.experiments.measuring import autocast, synchronize

STAGES = {
    "trunk": "blocks of the frozen CLIP: four taps and the dense map, one pass",
    "pyramid": "upsampling of the taps, FPN",
    "RPN": "its convolutions, decoding, NMS",
    "RoI": "RoIAlign, box head, NMS of the detections, masks",
    "fusion": "pooling of the dense map, both softmaxes, geometric mean",
    "other": "normalising, padding, results",
}
MODES = {
    "float32": "as the config says",
    "bf16": "bfloat16 autocast",
    "fp16": "float16 autocast, for GPUs",
    "compiled": "blocks and heads through torch.compile",
    "released_padding": "images padded to the config's square",
    "own_padding": "images padded to their own size",
    "one_by_one": "the images of a batch one at a time",
    "mmdet_heads": "NMS of detections, pooling and layout of masks as mmdet has them",
}


def benchmark_inference(
    config: Config,
    *,
    modes: Sequence[str] = ("float32",),
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
        modes: Out of :data:`MODES`; the others are compared with the first.
        image_size: (height, width) in pixels.
        batch: Images at a time.
        classes: Size of the vocabulary; None: as the config says.
        repeats: Measured rounds, of a pass of each mode; of each stage the fastest is kept.
        amp: ``"bf16"``, ``"fp16"`` or None for float32, in modes that name no precision.
        device: Where it runs.
        report: Called with a line per pass.

    Returns:
        ``modes``: per mode ``seconds`` per image by stage, their ``shares``, ``total`` seconds per
        image, ``proposals`` per image and, for all but the first, ``speed`` (how many times as fast
        as the first) and ``score_difference`` and ``box_difference`` (largest of any class
        probability and, in pixels, of any box, for the first mode's proposals). Texts are no
        stage: a detector has no text tower.

    Raises:
        ValueError: Unknown modes, or a config that is no F-ViT's.
    """
    if unknown := sorted(set(modes) - set(MODES)):
        raise ValueError(f"unknown mode {', '.join(unknown)}; known: {', '.join(MODES)}")
    with explaining_errors(config):
        base = random_detector(config, classes).to(device)
    rng = np.random.default_rng(0)
    pictures = [
        torch.from_numpy(rng.integers(0, 256, (3, *image_size), dtype=np.uint8))
        for _ in range(batch)
    ]
    runs = {mode: _Run(base, mode, amp) for mode in modes}
    for number in range(repeats + 1):
        for mode, run in runs.items():
            seconds = run.measured(pictures)
            report(f"pass {number} of {repeats}, {mode}: {sum(seconds.values()):.2f} s")
    first, *others = runs.values()
    results = {mode: run.result(batch) for mode, run in runs.items()}
    proposals, expected = first.answers(pictures)
    for run in others:
        found = results[run.mode]
        found["speed"] = results[first.mode]["total"] / found["total"]
        answers = run.answers(pictures, proposals)[1]
        for name, key in (("score", "scores"), ("box", "bboxes")):
            found[f"{name}_difference"] = max(
                (one[key] - other[key]).abs().max().item()
                for one, other in zip(expected, answers, strict=True)
            )
    return {"modes": results}


def format_split(result: dict[str, Any]) -> str:
    """The result of :func:`benchmark_inference` as Markdown tables."""
    modes: dict[str, Any] = result["modes"]
    lines = [
        f"| stage | {' | '.join(f'{mode}, ms / image | share' for mode in modes)} | what |",
        "|---" * (2 * len(modes) + 2) + "|",
    ]
    for stage, what in STAGES.items():
        cells = [
            f"{1000 * found['seconds'][stage]:.0f} | {100 * found['shares'][stage]:.0f} %"
            for found in modes.values()
        ]
        lines.append(f"| {stage} | {' | '.join(cells)} | {what} |")
    totals = [f"{1000 * found['total']:.0f} | " for found in modes.values()]
    counts = ", ".join(f"{found['proposals']:.0f}" for found in modes.values())
    lines.append(f"| total | {' | '.join(totals)} | {counts} proposals |")
    first, *others = modes
    if others:
        lines += [
            "",
            f"| mode | speed, {first} = 1 | scores differ by | boxes by |",
            "|---" * 4 + "|",
        ]
    lines += [
        f"| {mode} | {modes[mode]['speed']:.2f} | {modes[mode]['score_difference']:.1e} "
        f"| {modes[mode]['box_difference']:.1e} px |"
        for mode in others
    ]
    return "\n".join(lines)


class _Run:
    """A detector in one mode, and the seconds of its passes."""

    def __init__(self, base: Any, mode: str, amp: str | None) -> None:
        self.mode = mode
        self.model = _detector_in_mode(base, mode)
        self.device = next(base.parameters()).device
        own = {"float32": None, "bf16": "bf16", "fp16": "fp16"}
        self.amp = own.get(mode, amp)
        self.watch = _Stopwatch(self.device)
        self.passes: list[dict[str, float]] = []
        _watch_stages(self.model, self.watch)

    def measured(self, pictures: Sequence[torch.Tensor]) -> dict[str, float]:
        """Seconds by stage of a pass."""
        self.watch.seconds.clear()
        self.watch.proposals = 0
        self.watch.timed("other", self._detect)(pictures)
        self.passes.append(dict(self.watch.seconds))
        return self.passes[-1]

    def result(self, batch: int) -> dict[str, Any]:
        """What :func:`benchmark_inference` returns of one mode by itself."""
        seconds = {  # the first one warms up
            stage: min(found[stage] for found in self.passes[1:]) / batch for stage in STAGES
        }
        total = sum(seconds.values())
        return {
            "seconds": seconds,
            "shares": {stage: value / total for stage, value in seconds.items()},
            "total": total,
            "proposals": self.watch.proposals / batch,
        }

    def answers(
        self, pictures: Sequence[torch.Tensor], proposals: Sequence[torch.Tensor] | None = None
    ) -> tuple[list[torch.Tensor], list[InstanceData]]:
        """Proposals (n, 4) of every image, and what is made of each: before NMS."""
        head, kept, used = self.model.roi_head.bbox_head, [], []
        predict = head._predict_by_feat_single

        def keep(roi: torch.Tensor, *args: Any, **options: Any) -> InstanceData:
            used.append(roi[:, 1:])
            kept.append(predict(roi, *args, **{**options, "rcnn_test_cfg": None}))
            return predict(roi, *args, **options)

        head._predict_by_feat_single = keep
        self._detect(pictures, proposals)
        head._predict_by_feat_single = predict
        return used, kept

    def _detect(
        self, pictures: Sequence[torch.Tensor], proposals: Sequence[torch.Tensor] | None = None
    ) -> None:
        samples = []
        for index, picture in enumerate(pictures):
            shape = tuple(picture.shape[-2:])
            meta = {"img_shape": shape, "ori_shape": shape, "scale_factor": (1.0, 1.0)}
            samples.append(DetDataSample(metainfo=meta))
            if proposals is not None:
                samples[-1].proposals = InstanceData(bboxes=proposals[index])
        step = 1 if self.mode == "one_by_one" else len(pictures)
        with torch.inference_mode(), autocast(self.device, self.amp):
            for start in range(0, len(pictures), step):
                part = slice(start, start + step)
                self.model.test_step(
                    {"inputs": list(pictures[part]), "data_samples": samples[part]}
                )


def _detector_in_mode(base: Any, mode: str) -> Any:
    model = copy.deepcopy(base)
    masks = getattr(model.roi_head, "mask_roi_extractor", None)
    pooling = copy.deepcopy(masks)
    model.fuse_for_inference()
    if mode == "own_padding":
        model.pad_to_own_size()
    if mode == "compiled":
        model.compile_parts()
    if mode == "mmdet_heads":
        _use_mmdets_nms(model.roi_head.bbox_head)
        if masks is not None:
            model.roi_head.mask_roi_extractor = pooling
            model.roi_head.mask_head.to(memory_format=torch.contiguous_format)
    return model


def _use_mmdets_nms(head: Any) -> None:
    raw_boxes = head._predict_by_feat_single

    def predict(*args: Any, rcnn_test_cfg: Any = None, **options: Any) -> InstanceData:
        raw = raw_boxes(*args, rcnn_test_cfg=None, **options)
        if rcnn_test_cfg is None:
            return raw
        cfg = rcnn_test_cfg
        found, labels = multiclass_nms(
            raw.bboxes, raw.scores, cfg.score_thr, cfg.nms, cfg.max_per_img
        )
        return InstanceData(bboxes=found[:, :4], scores=found[:, 4], labels=labels)

    head._predict_by_feat_single = predict


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
        watch.proposals += sum(len(found) for found in proposals)
        return proposals

    for stage, owner, name, function in (
        ("trunk", model.backbone.trunk, "forward_taps", None),
        ("pyramid", model.backbone, "forward_with_dense", None),
        ("pyramid", model, "_neck", None),
        ("RPN", model.rpn_head, "predict", count),
        ("RoI", model.roi_head, "predict", None),
        ("fusion", model.roi_head, "clip_features", None),
        ("fusion", model.roi_head.bbox_head, "class_probabilities", None),
    ):
        setattr(owner, name, watch.timed(stage, function or getattr(owner, name)))


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
