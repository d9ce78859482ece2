"""What a training on data of one's own starts from, as overrides of its config."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fineclip.configuration.model_names import tower_sizes
from fineclip.configuration.plain import PLAIN_CONFIG, read_plain_config
from fineclip.weights import is_file_name, is_work_dir, weights_file

_MOST_PIXELS = 640  # side of a detector's input, as F-ViT has it on OV-COCO


@dataclass(frozen=True)
class StartOptions:
    """What follows from a start.

    Attributes:
        options: Overrides.
        trained: It has been trained for the task.
        lr: Learning rate that it was trained with; None: not known.
        lines: What the user should be told.
    """

    options: dict[str, Any] = field(default_factory=dict)
    trained: bool = False
    lr: float | None = None
    lines: tuple[str, ...] = ()


def start_options(
    settings: Mapping[str, Any], task: str, images: Sequence[Mapping[str, Any]]
) -> StartOptions:
    """Reads what stands beside a start, where it is a training of ours.

    Args:
        settings: Variables of the config; ``start`` and ``model_name`` among them.
        task: "pretraining" or "detection".
        images: Entries of the training images, whose sizes decide about a detector's input.

    Raises:
        FileNotFoundError: The start does not exist.
        ValueError: It is none for the task, or its model is not known.
    """
    start = settings["start"]
    if start is None:
        return _from_clip(None, settings["model_name"], task, images)
    file = None
    if is_work_dir(start) or is_file_name(start) or Path(start).is_dir():
        file = weights_file(start)
    beside = None if file is None else file.parent / PLAIN_CONFIG
    if beside is None or not beside.is_file():
        weights = start if file is None else str(file)
        return _from_clip(weights, settings["model_name"], task, images)
    trained = read_plain_config(beside)._cfg_dict.to_dict()
    kind = (trained.get("model") or {}).get("type")
    if kind == "FViT" and task == "detection":
        return _from_detector(str(file), trained)
    if kind != "FineCLIPPretrainer":
        raise ValueError(f"start={start}: {beside} is of a {kind}, which is no start for {task}")
    found = _from_clip(str(file), trained["model_name"], task, images)
    if task == "detection":
        return found
    sizes = {key: trained[key] for key in ("image_size", "crop_size") if key in trained}
    return StartOptions({**found.options, **sizes}, True, trained.get("lr"), found.lines)


def _from_clip(
    weights: str | None, model: str, task: str, images: Sequence[Mapping[str, Any]]
) -> StartOptions:
    """A CLIP: of a detector, everything but the image tower starts from nothing."""
    found: dict[str, Any] = {"start": weights, "model_name": model, "pretrained": weights}
    if task == "pretraining":
        return StartOptions(found)
    sizes = tower_sizes(model)
    if sizes is None:
        raise ValueError(
            f"model_name={model}: the sizes of its image tower are not known; derive a config from "
            "configs/detection/_base_/ov_coco.py that says them"
        )
    step = 4 * sizes.patch  # the coarsest level of the pyramid
    most = round(_MOST_PIXELS / step) * step
    sides = [max(image["width"], image["height"]) for image in images if "width" in image]
    side = min(-(-round(statistics.median(sides)) // step) * step, most) if sides else most
    blocks = sizes.blocks
    found |= {
        "text_pretrained": weights,
        "image_size": side,
        "width": sizes.width,
        "embed_dim": sizes.embed_dim,
        "taps": [blocks // 4, 5 * blocks // 12, 7 * blocks // 12, blocks - 1],
        "strides": [sizes.patch * factor for factor in (0.25, 0.5, 1, 2, 4)],
    }
    return StartOptions(found, lines=(f"images are scaled to {side} pixels",))


def _from_detector(file: str, trained: Mapping[str, Any]) -> StartOptions:
    """A detector of ours: model and input are its own, the classes new."""
    model = dict(trained["model"])
    head = {**model["roi_head"]["bbox_head"], "keep_vocabulary": True}
    model["roi_head"] = {**model["roi_head"], "bbox_head": head}
    model["backbone"] = {**model["backbone"], "pretrained": None}  # the checkpoint has the tower
    variables = {
        key: trained[key]
        for key in ("model_name", "image_size", "with_mask", "text_pretrained")
        if key in trained
    }
    options = {
        **variables,
        "start": file,
        "pretrained": None,
        "load_from": file,
        # Of few images, batch norms would learn statistics of these alone.
        "model": {**model, "norm_eval": True},
    }
    return StartOptions(options, True, trained.get("lr"))
