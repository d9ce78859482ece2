"""Where a training step of CAT-Seg spends its time, forward and backward.

Weights, pixels and labels are random: what a step costs does not depend on them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fineclip.engine.optim import fused_options
from fineclip.experiments.measuring import synchronize
from segmentation.experiments.inference_benchmark import InferenceSettings, random_segmenter
from segmentation.modeling import Segmenter
from segmentation.modeling.finetune import text_blocks

STAGES = {
    "text tower": "the vocabulary's prompts",
    "image tower": "blocks with two taps, dense map",
    "spatial": "attention inside windows of every class map",
    "class": "attention over classes at every location",
    "decoder": "guided upsampling, logits",
    "loss": "logits at the images' size, cross-entropy",
    "optimizer": "clipped gradients, AdamW",
    "other": "pixels, cost volume, what lies between the others",
}


class Timeline:
    """Seconds between marks, each given to the stage that the earlier mark begins."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[tuple[str, str], float] = defaultdict(float)
        self.way = "forward"
        self._stage = "other"
        self._since = self._now()

    def mark(self, stage: str, *_: Any) -> None:
        """Ends the stage that ran and begins another."""
        now = self._now()
        self.seconds[self._stage, self.way] += now - self._since
        self._stage, self._since = stage, now

    def _now(self) -> float:
        synchronize(self.device)
        return time.perf_counter()


def benchmark_step(
    settings: InferenceSettings,
    *,
    repeats: int = 3,
    amp: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measures the stages of a step.

    Args:
        settings: Model, class list, grid, size and number of the images, device, threads.
        repeats: Measured steps; the fastest counts.
        amp: bfloat16 autocast.
        report: Called with a line per step.

    Returns:
        ``seconds`` of a step by stage, ``forward`` and ``backward`` each; ``total`` seconds.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    model, names = random_segmenter(settings)
    model.sem_seg_head.train_classes = names
    model.train()
    device = torch.device(settings.device)
    timeline = Timeline(device)
    _mark_stages(model, timeline)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, **fused_options(torch.optim.AdamW, trained))
    generator = torch.Generator().manual_seed(1)
    size = (settings.height, settings.width)
    images = [
        torch.randint(0, 256, (3, *size), generator=generator).to(torch.uint8)
        for _ in range(settings.images)
    ]
    labels = [torch.randint(len(names), size, generator=generator) for _ in images]
    steps: list[dict[tuple[str, str], float]] = []
    for number in range(repeats + 1):
        timeline.seconds.clear()
        timeline.way = "forward"
        timeline.mark("other")
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            loss = model.loss(images, labels)
        timeline.mark("loss")
        timeline.way = "backward"
        loss.backward()
        timeline.mark("optimizer")
        timeline.way = "forward"
        nn.utils.clip_grad_norm_(model.parameters(), 0.01)
        optimizer.step()
        optimizer.zero_grad()
        timeline.mark("other")
        steps.append(dict(timeline.seconds))
        report(f"step {number} of {repeats}: {sum(steps[-1].values()):.2f} s")
    best = min(steps[1:], key=lambda step: sum(step.values()))  # the first one warms up
    seconds = {
        stage: {way: best.get((stage, way), 0.0) for way in ("forward", "backward")}
        for stage in STAGES
    }
    return {"seconds": seconds, "total": sum(best.values())}


def step_split(result: dict[str, Any]) -> str:
    """The result of :func:`benchmark_step` as a Markdown table."""
    lines = ["| stage | forward, ms | backward, ms | share | what |", "|---|---|---|---|---|"]
    for stage, what in STAGES.items():
        ways = result["seconds"][stage]
        share = 100 * sum(ways.values()) / result["total"]
        lines.append(
            f"| {stage} | {1000 * ways['forward']:.0f} | {1000 * ways['backward']:.0f} "
            f"| {share:.0f} % | {what} |"
        )
    lines.append(f"| total | {1000 * result['total']:.0f} | | | |")
    return "\n".join(lines)


def _mark_stages(model: Segmenter, timeline: Timeline) -> None:
    """Marks where stages begin: forward, a module's call; backward, the gradient of its result."""
    predictor = model.sem_seg_head.predictor
    network = predictor.transformer
    parts: dict[str, list[nn.Module]] = {
        "text tower": list(text_blocks(predictor.clip_model)),
        "image tower": list(predictor.trunk.blocks),
        "spatial": [layer.get_submodule("swin_block") for layer in network.layers],
        "class": [layer.get_submodule("attention") for layer in network.layers],
        "decoder": [network.decoder1, network.decoder2, network.head],
    }
    for stage, modules in parts.items():
        begin = partial(timeline.mark, stage)
        for module in modules:
            module.register_forward_pre_hook(begin)
            module.register_forward_hook(partial(_mark_gradient, begin))
    # What is no module: it ends the stage before.
    for owner, name, stage in (
        (predictor.trunk, "forward_taps", "image tower"),
        (network, "forward", "other"),
        (model, "logits", "loss"),
    ):
        setattr(owner, name, _marked(getattr(owner, name), timeline, stage, name == "logits"))


def _mark_gradient(begin: Callable[..., None], module: nn.Module, inputs: Any, out: Tensor) -> None:
    if out.requires_grad:
        out.register_hook(lambda gradient: begin())


def _marked(
    function: Callable[..., Any], timeline: Timeline, stage: str, after: bool
) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        timeline.mark("other" if after else stage)
        result = function(*args, **options)
        timeline.mark(stage if after else "other")
        return result

    return call
