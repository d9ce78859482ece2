"""Evaluation of a CLIP, by name, on a folder of images and annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from torch.utils.data import DataLoader

from fineclip.datasets.evaluation_batch import collate_evaluation
from fineclip.datasets.transforms import ImageTransform, Resize
from fineclip.devices import usable_device
from fineclip.evaluation.runner import Amp, evaluate, join_results
from fineclip.evaluation.saving import keep_predictions
from fineclip.evaluation.tasks import COCO_TASKS, DEFAULT_TASKS, TaskOptions, build_task
from fineclip.models import DenseCLIP
from fineclip.models.class_embeddings import text_cache
from fineclip.models.dense_maps import find_dense_map
from fineclip.models.guide import Guide


def evaluate_folder(
    model: str,
    pretrained: str | None,
    data_root: str | Path,
    *,
    tasks: Sequence[str] = DEFAULT_TASKS,
    image_size: int | None = None,
    resize: Resize = "squash",
    batch_size: int = 32,
    workers: int = 2,
    device: str | None = None,
    amp: Amp | None = None,
    save_predictions: Path | None = None,
    guide: tuple[str, Path] | None = None,
    notify: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> dict[str, Any]:
    """Evaluates a model on the tasks that a folder has the files for.

    Args:
        model: open_clip name.
        pretrained: See :meth:`DenseCLIP.create`; None: random weights, the same every time.
        data_root: What the tasks expect in it: :class:`fineclip.evaluation.tasks.TaskOptions`.
        tasks: Some of :data:`fineclip.evaluation.tasks.TASKS`.
        image_size: Side of the network input in pixels; None: the model's own.
        resize: "squash" (FineCLIP's protocol, bilinear) or "pad" (CLIPSelf's, bicubic); images
            in class folders are always their central square.
        batch_size: Images at a time.
        workers: Processes that load them.
        device: Where to run; None: the accelerator, if there is one.
        amp: Autocast type, None for full precision.
        save_predictions: File for what box or mask classification (one of them) says of each
            region; None: none.
        guide: timm name and weights of the model that guides the dense map "proxyclip".
        notify: Called with what the user should know of the choices made.
        **options: Of :class:`fineclip.evaluation.tasks.TaskOptions`: ``split``, ``templates``, ...

    Returns:
        ``model``, ``pretrained``, ``data_root``; ``tasks``, for each its annotation file, input
        and ``metrics``; and ``metrics``, those of all tasks.

    Raises:
        ValueError: Unknown or malformed input, or nothing in a file that could be evaluated.
        FileNotFoundError: A file or folder is missing.
    """
    # Everything is looked up and built before anything runs: what is missing shows at once.
    place = usable_device(device)
    chosen = TaskOptions(Path(data_root), **options)
    chosen.check(tasks)
    _check_guide(chosen.dense_map, guide)
    if set(tasks) & COCO_TASKS:
        _ = chosen.coco_files
    clip = _load(model, pretrained)
    if guide is not None:
        second = Guide(*guide, mean=clip.image_mean, std=clip.image_std).to(place)
        chosen = replace(chosen, guide=second)
    size = _checked_size(clip, model, image_size)
    transform = ImageTransform(size, resize, "bilinear" if resize == "squash" else "bicubic")
    built = {name: build_task(name, chosen, clip, transform) for name in tasks}
    regions = {"box_classification": "boxes", "mask_classification": "masks"}
    for name in [name for name in regions if name in built and not chosen.coco_files.panoptic]:
        instances = chosen.coco_files.instances
        notify(f"no panoptic annotations: classifying the {regions[name]} of {instances}")
    cache = text_cache(model, pretrained)
    for task in built.values():
        task.metric.text_cache = cache
    evaluators = {name: Evaluator([task.metric]) for name, task in built.items()}
    if save_predictions is not None:
        keep_predictions(evaluators, save_predictions)
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
        metrics = evaluate(clip, loader, evaluators[name], amp=amp, make_step=task.make_step)
        if not any(key.endswith(("_top1", "_r1", "mIoU")) for key in metrics):
            raise ValueError(f"{name}: nothing in {task.source} could be evaluated")
        entries[name] = {
            "annotations": str(task.source),
            "image_size": size,
            "resize": resize,
            "dense_map": chosen.dense_map,
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


def _check_guide(dense_map: str, guide: tuple[str, Path] | None) -> None:
    guided = find_dense_map(dense_map).compared == "guide"
    if guided and guide is None:
        raise ValueError(
            f"--dense-map {dense_map} needs a second model: --guide and --guide-weights name it"
        )
    if guide is not None and not guided:
        raise ValueError(f"--guide is for --dense-map proxyclip, not {dense_map}")


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
