#!/usr/bin/env python
"""Evaluates a CLIP model zero-shot on a COCO-format folder: box classification and retrieval."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from mmengine.evaluator import Evaluator
from torch.utils.data import DataLoader

from fineclip.datasets.coco_layout import find_files, use_annotations
from fineclip.datasets.evaluation_batch import collate_evaluation
from fineclip.datasets.transforms import ImageTransform
from fineclip.evaluation.runner import evaluate, merge_results
from fineclip.evaluation.tasks import TASKS, build_task
from fineclip.files import write_atomically
from fineclip.models import DenseCLIP
from fineclip.pretraining import FineCLIPPretrainer
from fineclip.text.templates import TEMPLATES
from fineclip.text.vocabulary import known_vocabularies


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit code 2 and one line on standard error for bad usage or bad input.",
    )
    parser.add_argument("--model", required=True, help="open_clip model name, such as ViT-B-16")
    parser.add_argument(
        "--pretrained",
        help="open_clip tag (openai), a checkpoint file in any known format, or one of this "
        "package's training runs; left out: random weights",
    )
    parser.add_argument(
        "--data-root",
        required=True,
        type=Path,
        help="folder with SPLIT/ (images) and annotations/ (panoptic_SPLIT.json and its PNG "
        "folder, or instances_SPLIT.json; captions_SPLIT.json)",
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=TASKS,
        default=list(TASKS),
        metavar="TASK",
        help=f"any of {', '.join(TASKS)} (default: both)",
    )
    parser.add_argument("--split", help="default: val2017 if there is such a folder, else val")
    parser.add_argument(
        "--annotations",
        nargs="+",
        type=Path,
        default=[],
        metavar="JSON",
        help="annotation files to use instead of those found; the kind follows from the content",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="N",
        help="side of the network input in pixels (default: the model's own)",
    )
    parser.add_argument(
        "--resize",
        choices=("squash", "pad"),
        default="squash",
        help="squash: to a square, bilinear (FineCLIP's protocol); pad: longer side to N, "
        "bicubic, black at the right and bottom (CLIPSelf's dense protocol)",
    )
    parser.add_argument(
        "--templates",
        default="vild",
        help=f"prompts: {', '.join(TEMPLATES)}, or a string with {{}} for the class name",
    )
    parser.add_argument(
        "--vocabulary",
        help="candidate classes: " + ", ".join(known_vocabularies()) + ", or a JSON file "
        "(default: the categories of the annotation file)",
    )
    parser.add_argument("--batch-size", type=int, default=32, metavar="N")
    parser.add_argument("--workers", type=int, default=2, metavar="N")
    parser.add_argument("--device", help="default: cuda if there is one, else cpu")
    parser.add_argument("--amp", choices=("bf16", "fp16"), help="default: full precision")
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the results here too")
    args = parser.parse_args(argv)
    for name, least in (("batch_size", 1), ("workers", 0), ("image_size", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    args.tasks = list(dict.fromkeys(args.tasks))
    return args


def run(args: argparse.Namespace) -> dict[str, object]:
    """Evaluates and returns what ``--out`` writes.

    Raises:
        ValueError: Bad input; FileNotFoundError where a file or folder is missing.
    """
    if args.out and not args.out.resolve().parent.is_dir():
        raise FileNotFoundError(f"--out: folder {args.out.resolve().parent} does not exist")
    device = pick_device(args.device)
    files = use_annotations(find_files(args.data_root, args.split), args.annotations)
    torch.manual_seed(0)  # without --pretrained the weights are random, yet the same every time
    try:
        clip = DenseCLIP.create(args.model, args.pretrained)
    except RuntimeError as error:  # open_clip's answer to a failed download
        raise ValueError(f"{args.model} ({args.pretrained}): {error}") from error
    if args.image_size is None and clip.image_size[0] != clip.image_size[1]:
        raise ValueError(
            f"{args.model} takes images of {clip.image_size} pixels; choose a square --image-size"
        )
    size = args.image_size or clip.image_size[0]
    if any(size % patch for patch in clip.patch_size):
        raise ValueError(
            f"--image-size {size} is not a multiple of the patch size {clip.patch_size[0]} of "
            f"{args.model}"
        )
    transform = ImageTransform(
        size, args.resize, "bilinear" if args.resize == "squash" else "bicubic"
    )
    # Everything is built before anything runs: a missing file shows at once.
    tasks = {
        name: build_task(
            name,
            files,
            transform=transform,
            tokenizer=clip.tokenizer,
            vocabulary=args.vocabulary,
            templates=args.templates,
        )
        for name in args.tasks
    }
    if "box_classification" in tasks and not files.panoptic:
        print(f"no panoptic annotations: classifying the boxes of {files.instances}", flush=True)
    model = FineCLIPPretrainer(clip=clip, objectives=[]).to(device)
    results = {}
    for name, task in tasks.items():
        loader = DataLoader(
            task.dataset,
            batch_size=args.batch_size,
            num_workers=args.workers,
            collate_fn=collate_evaluation,
            pin_memory=device.type == "cuda",
        )
        results[name] = evaluate(model, loader, Evaluator([task.metric]), amp=args.amp)
        if not any(key.endswith(("_top1", "_r1")) for key in results[name]):
            raise ValueError(f"{name}: nothing in {task.source} could be evaluated")
    return {
        "model": args.model,
        "pretrained": args.pretrained,
        "data_root": str(args.data_root),
        "tasks": {
            name: {
                "annotations": str(tasks[name].source),
                "image_size": size,
                "resize": args.resize,
                "metrics": metrics,
            }
            for name, metrics in results.items()
        },
        "metrics": merge_results(results),
    }


def pick_device(name: str | None) -> torch.device:
    """The device to run on; ValueError if it cannot be used here."""
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    # torch raises AssertionError where it was built without the device's support.
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device


def format_table(report: dict[str, object]) -> str:
    """One line per result: task, metric, value."""
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


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        report = run(args)
        print(format_table(report))
        if args.out:
            write_atomically(args.out, json.dumps(report, indent=2) + "\n")
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
