"""Zero-shot evaluation of a CLIP, by name, on a folder of images and annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from torch.utils.data import DataLoader

from fineclip.datasets.coco_layout import find_files, use_annotations
from fineclip.datasets.evaluation_batch import collate_evaluation
from fineclip.datasets.transforms import ImageTransform, Resize
from fineclip.devices import usable_device
from fineclip.evaluation.runner import Amp, evaluate, join_results
from fineclip.evaluation.tasks import TASKS, build_task
from fineclip.models import DenseCLIP
from fineclip.text import Vocabulary


def evaluate_folder(
    model: str,
    pretrained: str | None,
    data_root: str | Path,
    *,
    tasks: Sequence[str] = TASKS,
    split: str | None = None,
    annotations: Sequence[Path] = (),
    image_size: int | None = None,
    resize: Resize = "squash",
    templates: str = "vild",
    vocabulary: str | Vocabulary | Sequence[str] | None = None,
    batch_size: int = 32,
    workers: int = 2,
    device: str | None = None,
    amp: Amp | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Evaluates a model on the tasks that a COCO-format folder has the files for.

    Args:
        model: open_clip name.
        pretrained: See :meth:`DenseCLIP.create`; None: random weights, the same every time.
        data_root: See :func:`fineclip.datasets.coco_layout.find_files`.
        tasks: Some of :data:`TASKS`.
        split: Which split; None: the validation split.
        annotations: Annotation files to use instead of those found.
        image_size: Side of the network input in pixels; None: the model's own.
        resize: "squash" (FineCLIP's protocol, bilinear) or "pad" (CLIPSelf's, bicubic).
        templates: Prompts of box classification.
        vocabulary: Candidate classes of box classification; None: those of the annotations.
        batch_size: Images at a time.
        workers: Processes that load them.
        device: Where to run; None: the accelerator, if there is one.
        amp: Autocast type, None for full precision.
        notify: Called with what the user should know of the choices made.

    Returns:
        ``model``, ``pretrained``, ``data_root``; ``tasks``, for each its annotation file, input
        and ``metrics``; and ``metrics``, those of all tasks.

    Raises:
        ValueError: Unknown or malformed input, or nothing in a file that could be evaluated.
        FileNotFoundError: A file or folder is missing.
    """
    # Everything is looked up and built before anything runs: what is missing shows at once.
    place = usable_device(device)
    files = use_annotations(find_files(Path(data_root), split), annotations)
    clip = _load(model, pretrained)
    size = _checked_size(clip, model, image_size)
    transform = ImageTransform(size, resize, "bilinear" if resize == "squash" else "bicubic")
    built = {
        name: build_task(
            name,
            files,
            transform=transform,
            tokenizer=clip.tokenizer,
            vocabulary=vocabulary,
            templates=templates,
        )
        for name in tasks
    }
    if "box_classification" in built and not files.panoptic:
        notify(f"no panoptic annotations: classifying the boxes of {files.instances}")
    clip.to(place)
    entries: dict[str, dict[str, Any]] = {}
    for name, task in built.items():
        loader = DataLoader(
            task.dataset,
            batch_size=batch_size,
            num_workers=workers,
            collate_fn=collate_evaluation,
            pin_memory=place.type == "cuda",
        )
        metrics = evaluate(clip, loader, Evaluator([task.metric]), amp=amp)
        if not any(key.endswith(("_top1", "_r1")) for key in metrics):
            raise ValueError(f"{name}: nothing in {task.source} could be evaluated")
        entries[name] = {
            "annotations": str(task.source),
            "image_size": size,
            "resize": resize,
            "metrics": metrics,
        }
    return {
        "model": model,
        "pretrained": pretrained,
        "data_root": str(data_root),
        "tasks": entries,
        "metrics": join_results({name: entry["metrics"] for name, entry in entries.items()}),
    }


def format_table(report: Mapping[str, Any]) -> str:
    """One line per result of :func:`evaluate_folder`: task, metric, value."""
    rows = [("task", "metric", "value")]
    for task, entry in report["tasks"].items():
        rows += [
            (task, key, f"{value:.2f}" if isinstance(value, float) else str(value))
            for key, value in entry["metrics"].items()
        ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{task:<{widths[0]}}  {key:<{widths[1]}}  {value:>{widths[2]}}"
        for task, key, value in rows
    )


def _load(model: str, pretrained: str | None) -> DenseCLIP:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # weights without a checkpoint are random, yet the same every time
        try:
            return DenseCLIP.create(model, pretrained)
        except RuntimeError as error:  # open_clip's answer to a failed download
            raise ValueError(f"{model} ({pretrained}): {error}") from error


def _checked_size(clip: DenseCLIP, model: str, size: int | None) -> int:
    """The side of the network input; ValueError if the model cannot take it."""
    if size is None and clip.image_size[0] != clip.image_size[1]:
        raise ValueError(
            f"{model} takes images of {clip.image_size} pixels; choose a square image size"
        )
    size = size or clip.image_size[0]
    if any(size % patch for patch in clip.patch_size):
        raise ValueError(
            f"image size {size} is not a multiple of the patch size {clip.patch_size[0]} of {model}"
        )
    return size
