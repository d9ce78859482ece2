"""Time and memory of one pretraining step, mode by mode.

Every mode is measured in a process of its own, so that its memory is its own. The batch is random:
what a step costs does not depend on what is in the pictures.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fineclip.engine.optim import fused_options, parameter_groups
from fineclip.experiments.measuring import (
    HALF_TYPES,
    autocast,
    call_function,
    count_flops,
    load_yardstick,
    measure_cost,
    synchronize,
)
from fineclip.experiments.step_modes import METHODS, MODES
from fineclip.models import DenseCLIP
from fineclip.objectives import (
    CLIPSelfDistillation,
    GlobalContrastive,
    Objective,
    RegionCLIPLoss,
    RegionContrastive,
    SelfDistillation,
)
from fineclip.pretraining import FineCLIPPretrainer
from fineclip.text import load_vocabulary

_CAPTION_TOKENS = (8, 24)  # shortest and longest, start and end included
_REGION_CAPTION_TOKENS = (5, 14)
_VOCABULARY = "coco"  # of RegionCLIP, which looks at some of its classes
_COUNTED_IMAGES = 2


@dataclass(frozen=True)
class StepSettings:
    """A step to measure.

    Attributes:
        mode: One of :data:`MODES`.
        model: open_clip name; weights are random.
        batch: Images.
        boxes: Box slots per image.
        filled: Share of the slots that hold a box.
        image_size: Side of images in pixels; None: the model's own.
        crop_size: Side of crops in pixels; None: that of the images.
        trainable: Parts that train, see :class:`fineclip.pretraining.FineCLIPPretrainer`.
        amp: "bf16" or "fp16" autocast; None: float32.
        device: A torch device.
        chunk_sizes: Rows at a time of the chunked modes; None: a tenth of the crops, a quarter of
            images and texts.
        memory_budget: Bytes of activations in mode "auto"; None: half of the free memory.
        steps: Steps whose time is taken, after one that is not; memory is that of one more.
        threads: CPU threads; None: torch's choice.
        yardstick: File with the ``PaddedPretrainer`` of mode "padded".
        method: One of :data:`METHODS`.
        local_loss: Of several processes, each evaluates the losses of its own rows.
    """

    mode: str
    model: str
    batch: int
    boxes: int
    filled: float = 1.0
    image_size: int | None = None
    crop_size: int | None = None
    trainable: tuple[str, ...] = ("image", "logit_scale")
    amp: str | None = None
    device: str = "cpu"
    chunk_sizes: dict[str, int] | None = None
    memory_budget: float | None = None
    steps: int = 3
    threads: int | None = None
    yardstick: str | None = None
    method: str = "fineclip"
    local_loss: bool = False


def make_batch(clip: DenseCLIP, step: StepSettings, seed: int = 0) -> dict[str, Tensor]:
    """A random batch with as many boxes per image as the step fills of its slots."""
    generator = torch.Generator().manual_seed(seed)
    image = (step.image_size,) * 2 if step.image_size else clip.image_size
    crop = (step.crop_size,) * 2 if step.crop_size else image
    per_image = round(step.boxes * step.filled)
    regions = step.batch * per_image
    low = torch.rand(regions, 2, generator=generator) * 0.5

    def pixels(rows: int, size: tuple[int, int]) -> Tensor:
        return torch.randn(rows, 3, *size, generator=generator)

    def texts(rows: int, shortest: int, longest: int) -> Tensor:
        tokens = torch.zeros(rows, clip.context_length, dtype=torch.int64)
        longest = min(longest, clip.context_length)
        for row in tokens:
            length = int(
                torch.randint(min(shortest, longest), longest + 1, (), generator=generator)
            )
            row[:length] = torch.randint(1, 400, (length,), generator=generator)
            row[length - 1] = clip.text_tower.tower.token_embedding.num_embeddings - 1
        return tokens

    batch = {
        "images": pixels(step.batch, image),
        "texts": texts(step.batch, *_CAPTION_TOKENS),
        "boxes": torch.cat([low, low + 0.4], dim=1),
        "region_image": torch.arange(step.batch).repeat_interleave(per_image),
        "crops": pixels(regions, crop),
        "region_texts": texts(regions, *_REGION_CAPTION_TOKENS),
        "region_labels": torch.arange(regions) % len(load_vocabulary(_VOCABULARY)),
    }
    return {name: rows.to(step.device) for name, rows in batch.items()}


def random_pretrainer(step: StepSettings) -> FineCLIPPretrainer:
    """FineCLIP with the step's mode, random weights, on its device."""
    torch.manual_seed(0)
    clip = DenseCLIP.create(step.model)
    crops = max(1, round(step.batch * step.boxes * step.filled))
    sizes = step.chunk_sizes or {
        "images": -(-step.batch // 4),
        "crops": -(-crops // 10),
        "texts": -(-(crops + step.batch) // 4),
    }
    options: dict[str, Any] = {"local_loss": step.local_loss}
    if step.mode in ("chunked", "chunked_compiled"):
        options["chunk_sizes"] = sizes
    if step.mode == "auto":
        options |= {"chunk_sizes": "auto", "memory_budget": step.memory_budget}
    if step.mode == "checkpointing":
        options["grad_checkpointing"] = True
    if step.mode in ("compiled", "chunked_compiled"):
        options["compile_blocks"] = True
    if step.method == "regionclip":
        options |= {"vocabulary": _VOCABULARY, "templates": "plain"}
    kind = FineCLIPPretrainer
    if step.mode == "padded":
        kind = load_yardstick(step.yardstick, step.mode).PaddedPretrainer
    model = kind(clip, _objectives(step), trainable=step.trainable, **options)
    if step.mode == "padded":
        model.box_limit = step.boxes
    model.to(step.device).train()
    if step.method == "regionclip":
        assert model.teacher is not None
        model.teacher.category_embeddings()  # made once in a training, no part of a step
    return model


def _objectives(step: StepSettings) -> list[Objective]:
    if step.method == "fineclip":
        distillation = SelfDistillation(detach_teacher=step.mode == "detach_teacher")
        return [GlobalContrastive(), RegionContrastive(), distillation]
    others: dict[str, type[Objective]] = {
        "clip": GlobalContrastive,
        "regionclip": RegionCLIPLoss,
        "clipself": CLIPSelfDistillation,
    }
    if step.method not in others:
        raise ValueError(f"unknown method {step.method!r}; known: {', '.join(METHODS)}")
    return [others[step.method]()]


def step_runner(
    model: nn.Module, batch: Mapping[str, Tensor], step: StepSettings
) -> tuple[Callable[[], object], dict[str, Tensor], list[float]]:
    """A function that takes one step, what the model returned, and the optimizer's seconds.

    Args:
        model: A pretrainer, or one that is wrapped for several processes.
        batch: Of :func:`make_batch`.
        step: For its precision and mode.
    """
    device = torch.device(step.device)
    fused: dict[str, Any] = {"fused": False, "foreach": False}
    if step.mode != "unfused":
        fused = fused_options(torch.optim.AdamW, model.parameters())
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.1), lr=1e-6, **fused)
    outputs: dict[str, Tensor] = {}
    stepping: list[float] = []

    def run() -> None:
        # Gradients are kept allocated: they belong to the model, not to the step.
        optimizer.zero_grad(set_to_none=False)
        outputs.clear()
        with autocast(device, step.amp):
            outputs.update(model(**batch, mode="loss"))
        losses = [value for name, value in outputs.items() if name.startswith("loss_")]
        torch.stack(losses).sum().backward()
        synchronize(device)
        start = time.perf_counter()
        optimizer.step()
        synchronize(device)
        stepping.append(time.perf_counter() - start)

    return run, outputs, stepping


def measure_step(step: StepSettings) -> dict[str, Any]:
    """Measures one mode in this process.

    Returns:
        ``seconds_per_step``, ``cpu_seconds_per_step`` and ``optimizer_seconds`` of a step
        (medians), ``images_per_second``, ``peak_bytes`` (of a step: allocated on the CUDA device,
        else resident in the process), ``activation_bytes`` (what a step adds to parameters,
        gradients, optimizer state and batch, which are there before it), ``step_flops``
        (multiply-adds counted twice; what the mode computes), ``losses`` and ``gradient_norm`` of
        the first step.

    Raises:
        ValueError: Unknown method.
    """
    if step.threads:
        torch.set_num_threads(step.threads)
    model = random_pretrainer(step)
    run, outputs, stepping = step_runner(model, make_batch(model.clip, step), step)
    compiled = "compiled" in step.mode  # the counter would see through to the plain operations
    counter = FlopCounterMode(display=False)
    with nullcontext() if compiled else counter:
        run()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    facts = {
        "step_flops": None if compiled else counter.get_total_flops(),
        "losses": {n: v.item() for n, v in outputs.items() if n.startswith("loss_")},
        "gradient_norm": nn.utils.get_total_norm(gradients).item(),
    }
    cost = measure_cost(run, torch.device(step.device), steps=step.steps)
    rate = step.batch / cost["seconds_per_step"]
    facts["optimizer_seconds"] = median(stepping)
    return {"mode": step.mode, **cost, "images_per_second": rate, **facts}


def model_flops(step: StepSettings) -> float:
    """Operations that a step asks for, whatever its mode: those of the plain step.

    Counted on a few images and multiplied: rows are encoded one by one, and the comparison of all
    with all is below a thousandth of the work.
    """
    few = min(step.batch, _COUNTED_IMAGES)
    small = dataclasses.replace(step, mode="plain", batch=few)
    model = random_pretrainer(small)
    run, *_ = step_runner(model, make_batch(model.clip, small), small)
    return count_flops(run) * step.batch / few


def measure_settings(**settings: Any) -> dict[str, Any]:
    """:func:`measure_step` of :class:`StepSettings`."""
    return measure_step(StepSettings(**settings))


def step_cost(**settings: Any) -> dict[str, Any]:
    """:func:`measure_step` of :class:`StepSettings`, with :func:`model_flops`."""
    step = StepSettings(**settings)
    return {**measure_step(step), "model_flops": model_flops(step)}


def measure_in_process(step: StepSettings) -> dict[str, Any]:
    """:func:`measure_step` in a fresh process.

    Raises:
        RuntimeError: The process failed; its last line says why.
    """
    return call_function(
        f"{__name__}:measure_settings", dataclasses.asdict(step), f"mode {step.mode}"
    )


def matrix_rate(device: torch.device, amp: str | None = None, seconds: float = 1.0) -> float:
    """FLOP/s of large square matrix products, the device's practical peak in this precision."""
    dtype = HALF_TYPES.get(amp or "", torch.float32)
    side = 1024 if device.type == "cpu" else 8192
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best = 0.0
    end = time.perf_counter() + seconds
    while best == 0 or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(8):
            left @ right
        synchronize(device)
        best = max(best, 8 * 2 * side**3 / (time.perf_counter() - start))
    return best


def benchmark_steps(
    step: StepSettings, modes: list[str], report: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Measures modes one after the other.

    Args:
        step: What all modes share.
        modes: Names out of :data:`MODES`.
        report: Called with one line per mode.

    Returns:
        Settings, ``matrix_flops_per_second``, and ``modes``: per mode the figures of
        :func:`measure_step` and ``matrix_share``: FLOP/s over the matrix rate, where only the
        plain step's operations count, so that recomputation and padding are no achievement.

    Raises:
        ValueError: Unknown mode.
        RuntimeError: A mode failed.
    """
    if unknown := sorted(set(modes) - set(MODES)):
        raise ValueError(f"unknown mode {', '.join(unknown)}; known: {', '.join(MODES)}")
    if step.threads:
        torch.set_num_threads(step.threads)
    rate = matrix_rate(torch.device(step.device), step.amp)
    results = []
    for mode in modes:
        found = measure_in_process(dataclasses.replace(step, mode=mode))
        results.append(found)
        report(
            f"{mode}: {found['seconds_per_step']:.2f} s a step, "
            f"{found['activation_bytes'] / 2**30:.2f} GiB of activations"
        )
    plain = next((r for r in results if r["mode"] == "plain"), None)
    for found in results:
        useful = plain and plain["step_flops"]
        found["matrix_share"] = useful and useful / found["seconds_per_step"] / rate
    settings = dataclasses.asdict(step)
    del settings["mode"], settings["yardstick"]
    return {**settings, "matrix_flops_per_second": rate, "modes": results}


def step_table(result: dict[str, Any]) -> str:
    """The modes as a table."""
    lines = [
        "| mode | s / step | optimizer ms | images / s | activations GiB | peak GiB "
        "| share of matrix rate |",
        "|---|---|---|---|---|---|---|",
    ]
    for mode in result["modes"]:
        share = "-" if mode["matrix_share"] is None else f"{mode['matrix_share']:.0%}"
        lines.append(
            f"| {mode['mode']} | {mode['seconds_per_step']:.3g} "
            f"| {1000 * mode['optimizer_seconds']:.1f} | {mode['images_per_second']:.2f} "
            f"| {mode['activation_bytes'] / 2**30:.2f} | {mode['peak_bytes'] / 2**30:.2f} "
            f"| {share} |"
        )
    return "\n".join(lines)
