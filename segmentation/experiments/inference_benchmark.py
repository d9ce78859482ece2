"""Time and memory of segmenting images: the lean network against the release's formulas.

Every mode is measured in a process of its own, so that its memory is its own; several rounds take
turns, so that what else the machine does meets all modes alike. Weights and pixels are random: what
inference costs does not depend on them. Answers are compared.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fineclip.experiments.measuring import (
    call_function,
    load_yardstick,
    peak_memory_bytes,
    start_memory,
    synchronize,
)
from fineclip.text import load_vocabulary
from segmentation.modeling import Segmenter, SlidingWindows, build_segmenter

MODES = {
    "lean": "segmentation.modeling as it is: windows of all images together, within the budget",
    "one_by_one": "the same, one window at a time",
    "plain": "the release's formulas: guidance repeated for every class, attention matrices, "
    "windows one by one",
}
# Every n-th row and column of the answers is compared.
_COMPARED = 8


@dataclass(frozen=True)
class InferenceSettings:
    """What to measure.

    Attributes:
        mode: One of :data:`MODES`.
        model: Name of a CLIP model; its weights are random.
        vocabulary: Class list (:func:`fineclip.text.load_vocabulary`).
        grid: Side of CLIP's input in patches.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        images: So many at a time.
        sliding_window: Windows and the whole image, as benchmarks are evaluated; otherwise the
            whole image alone.
        memory_budget: Bytes that lean inference plans with; None: the segmenter's default.
        device: A torch device.
        threads: CPU threads; None: torch's choice.
        network: Further arguments of :func:`segmentation.modeling.build_segmenter`.
        yardstick: File with the ``PlainInference`` of the plain modes.
    """

    mode: str = "lean"
    model: str = "ViT-B/16"
    vocabulary: str = "ade847"
    grid: int = 24
    height: int = 512
    width: int = 683
    images: int = 1
    sliding_window: bool = True
    memory_budget: int | None = None
    device: str = "cpu"
    threads: int | None = None
    network: dict[str, Any] = dataclasses.field(default_factory=lambda: {"pooling_size": (1, 1)})
    yardstick: str | None = None


def random_segmenter(settings: InferenceSettings) -> tuple[Segmenter, tuple[str, ...]]:
    """The segmenter with random weights, and its vocabulary."""
    names = load_vocabulary(settings.vocabulary).names
    torch.manual_seed(0)
    options: dict[str, Any] = {}
    if settings.sliding_window:
        options["windows"] = SlidingWindows()
    if settings.mode == "one_by_one":
        options["memory_budget"] = 1
    elif settings.memory_budget is not None:
        options["memory_budget"] = settings.memory_budget
    model = build_segmenter(
        settings.model,
        train_classes=names[:1],
        grid=(settings.grid, settings.grid),
        segmenter=options,
        **settings.network,
    )
    return model.to(settings.device).eval(), names


def measure(settings: InferenceSettings, answers: Path) -> dict[str, Any]:
    """Measures one mode in this process.

    Args:
        settings: What to measure.
        answers: File for some of the probabilities.

    Returns:
        ``seconds``: of one image; ``vocabulary_seconds``: of the vocabulary, once; ``peak_bytes``:
        most memory while images are answered (allocated on the CUDA device, else resident in the
        process, weights and libraries included); ``image_bytes``: what of that the images add.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = torch.device(settings.device)
    model, names = random_segmenter(settings)
    generator = torch.Generator().manual_seed(1)
    size = (settings.height, settings.width)
    images = [
        torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
        for _ in range(settings.images)
    ]
    plain = None
    if settings.mode == "plain":
        plain = load_yardstick(settings.yardstick, settings.mode).PlainInference(model)

    def run() -> list[Tensor]:
        """Answers the images; the plain way has all classes' probabilities on the way."""
        found = []
        if plain is None:
            model.predict_labels(images, [size] * len(images), names)
        else:
            for image in images:
                scores = plain.predict(image, size, names)
                scores.argmax(dim=0)
                found.append(scores[:, ::_COMPARED, ::_COMPARED].clone())
        synchronize(device)
        return found

    start = time.perf_counter()
    with torch.no_grad():
        if plain is None:
            model.sem_seg_head.predictor.text(names)
        else:
            plain.encode(names)
    synchronize(device)
    vocabulary_seconds = time.perf_counter() - start
    start = time.perf_counter()
    scores = run()
    seconds = (time.perf_counter() - start) / len(images)
    before = start_memory(device)
    run()
    peak = peak_memory_bytes()
    if plain is None:
        found = model.predict(images, [size] * len(images), names)
        scores = [one[:, ::_COMPARED, ::_COMPARED].clone() for one in found]
    torch.save(torch.stack(scores).cpu(), answers)
    return {
        "mode": settings.mode,
        "classes": len(names),
        "seconds": seconds,
        "vocabulary_seconds": vocabulary_seconds,
        "peak_bytes": peak,
        "image_bytes": peak - before,
    }


def benchmark_modes(
    settings: InferenceSettings,
    modes: list[str],
    report: Callable[[str], None] = lambda line: None,
    *,
    rounds: int = 1,
) -> dict[str, Any]:
    """Measures modes in turns and compares them with the first.

    Args:
        settings: What all modes share.
        modes: Names out of :data:`MODES`.
        rounds: Measurements of each mode, of which the fastest counts.
        report: Called with one line per measurement.

    Returns:
        Settings, and ``modes``: per mode the figures of :func:`measure`, and ``speed`` (how many
        times as fast the first mode is), ``memory`` (the first mode's peak over this one's) and
        ``difference`` (largest of any probability) for all modes but the first.

    Raises:
        ValueError: Unknown mode or class list.
        RuntimeError: A mode failed.
    """
    if unknown := sorted(set(modes) - set(MODES)):
        raise ValueError(f"unknown mode {', '.join(unknown)}; known: {', '.join(MODES)}")
    measured: dict[str, list[dict[str, Any]]] = {mode: [] for mode in modes}
    answers: dict[str, Tensor] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for mode in modes:
                file = Path(folder) / f"{mode}.pt"
                found = _measure_in_process(dataclasses.replace(settings, mode=mode), file)
                measured[mode].append(found)
                answers[mode] = torch.load(file, weights_only=True)
                report(
                    f"{mode}: {found['seconds']:.2f} s an image, "
                    f"peak {found['peak_bytes'] / 2**30:.2f} GiB"
                )
    first, *others = (min(found, key=lambda one: one["seconds"]) for found in measured.values())
    for found in others:
        found["speed"] = found["seconds"] / first["seconds"]
        found["memory"] = first["peak_bytes"] / found["peak_bytes"]
        difference = answers[found["mode"]] - answers[first["mode"]]
        found["difference"] = difference.abs().max().item()
    shared = dataclasses.asdict(settings)
    del shared["mode"], shared["yardstick"]
    return {**shared, "rounds": rounds, "modes": [first, *others]}


def mode_table(result: dict[str, Any]) -> str:
    """The modes as a table."""
    modes = result["modes"]
    lines = [
        "| mode | s / image | vocabulary, once, s | peak GiB | of it the image's GiB "
        f"| speed of {modes[0]['mode']} | its memory | largest difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for mode in modes:
        against = "- | - | -"
        if "speed" in mode:
            against = f"{mode['speed']:.2f}x | {mode['memory']:.2f}x | {mode['difference']:.1e}"
        lines.append(
            f"| {mode['mode']} | {mode['seconds']:.2f} | {mode['vocabulary_seconds']:.1f} "
            f"| {mode['peak_bytes'] / 2**30:.2f} | {mode['image_bytes'] / 2**30:.2f} | {against} |"
        )
    return "\n".join(lines)


def _measure_in_process(settings: InferenceSettings, answers: Path) -> dict[str, Any]:
    arguments = {"answers": str(answers), **dataclasses.asdict(settings)}
    return call_function(f"{__name__}:measure_segmenting", arguments, f"mode {settings.mode}")


def measure_segmenting(answers: str, **settings: Any) -> dict[str, Any]:
    """:func:`measure` of :class:`InferenceSettings`."""
    return measure(InferenceSettings(**settings), Path(answers))
