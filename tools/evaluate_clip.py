#!/usr/bin/env python
"""Evaluates a CLIP: boxes, masks, retrieval, segmentation, classes; zero-shot or few-shot."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from fineclip.command_line import (
    ToolParser,
    add_data,
    add_device,
    add_weights,
    check_out_file,
    integer_argument,
    positive,
    real_number,
    report_error,
)
from fineclip.configuration.model_names import check_model_name
from fineclip.files import require_file, require_folder, write_atomically
from fineclip.interrupts import run_command
from fineclip.text.templates import TEMPLATES
from fineclip.text.vocabulary import known_vocabularies
from fineclip.weights import check_weights

DEFAULT_TASKS = ("box_classification", "retrieval")
TASKS = (*DEFAULT_TASKS, "segmentation", "classification", "few_shot", "mask_classification")
DENSE_MAPS = (
    *("value", "value-only", "qq", "kk", "sclip", "clearclip", "kk-only", "naclip", "proxyclip"),
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument(
        "--model", required=True, metavar="M", help="open_clip model name, such as ViT-B-16"
    )
    add_weights(
        parser,
        "open_clip tag (openai), a checkpoint file in any known format, or the work dir of a "
        "training (default: random weights)",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    add_data(where, "boxes, label maps and captions of its evaluation split, by its classes")
    where.add_argument(
        "--data-root",
        type=Path,
        metavar="D",
        help="folder with SPLIT/ (images) and annotations/ (panoptic_SPLIT.json and its PNG "
        "folder, or instances_SPLIT.json; captions_SPLIT.json; semantic_SPLIT/, label maps); for "
        "classification and few_shot, with a folder per class in SPLIT/; with --benchmark, the "
        "folder of data sets",
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        choices=TASKS,
        metavar="TASK",
        help=f"any of {', '.join(TASKS)} (default: {' '.join(DEFAULT_TASKS)}; with --data what "
        "its files are for)",
    )
    parser.add_argument(
        "--split",
        metavar="S",
        help="its part to evaluate on (default: val2017 if there is such a folder, else val; with "
        "--data val, or test without one)",
    )
    parser.add_argument(
        "--annotations",
        nargs="+",
        type=Path,
        default=[],
        metavar="JSON",
        help="annotation files, whose kind follows from the content (default: those found)",
    )
    parser.add_argument(
        "--image-size",
        type=positive,
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
        metavar="T",
        help=f"prompts: {', '.join(TEMPLATES)}, or a string with {{}} for the class name",
    )
    parser.add_argument(
        "--vocabulary",
        nargs="+",
        metavar="V",
        help="candidate classes: " + ", ".join(known_vocabularies()) + "; or a file (JSON, or text "
        "with a name a line); or several names (default: the categories of the annotation file)",
    )
    dense = parser.add_argument_group("segmentation, boxes and masks")
    dense.add_argument(
        "--dense-map",
        choices=DENSE_MAPS,
        default="value",
        metavar="M",
        help=f"what the last attention is replaced by: {', '.join(DENSE_MAPS)}; see "
        "docs/evaluation.md",
    )
    dense.add_argument(
        "--guide", metavar="T", help="timm ViT for proxyclip, such as vit_base_patch16_224.dino"
    )
    dense.add_argument("--guide-weights", type=Path, metavar="F", help="file of its weights")
    dense.add_argument(
        "--benchmark",
        metavar="B",
        help="segmentation: ade150, ade847, coco-stuff, pc59, pc459, scenes, voc20 or voc21 below "
        "--data-root, where prepare.py leaves it",
    )
    dense.add_argument(
        "--label-root",
        type=Path,
        metavar="L",
        help="segmentation: label maps (PNG or TIFF; values are places in --vocabulary) of the "
        "images in SPLIT/ (default: annotations/semantic_SPLIT)",
    )
    dense.add_argument(
        "--ignore-label",
        type=integer_argument(0),
        default=255,
        metavar="N",
        help="value of their pixels that do not count",
    )
    dense.add_argument(
        "--background-threshold",
        type=real_number(0, 1),
        metavar="P",
        help="voc21: pixels whose best class is less probable are background (default: the "
        "background has prompts)",
    )
    dense.add_argument(
        "--sliding-windows",
        type=positive,
        metavar="N",
        help="segmentation: resize the shorter side to N pixels and look through windows of the "
        "network input, which overlap by half (default: the whole image is the input)",
    )
    classes = parser.add_argument_group("classification and few_shot")
    classes.add_argument(
        "--class-map",
        type=Path,
        metavar="F",
        help="names of the class folders: JSON {FOLDER: NAME}, or lines 'n01440764 tench, Tinca "
        "tinca' (default: the folders' own names)",
    )
    classes.add_argument(
        "--train-split", default="train", metavar="S", help="where shots are drawn from"
    )
    classes.add_argument(
        "--shots",
        type=positive,
        nargs="+",
        default=(1, 5, 10, 25),
        metavar="N",
        help="training images per class",
    )
    classes.add_argument("--seeds", type=positive, default=3, metavar="N", help="number of draws")
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images")
    parser.add_argument(
        "--workers", type=integer_argument(0), default=2, metavar="N", help="processes that load"
    )
    add_device(parser)
    parser.add_argument(
        "--amp", choices=("bf16", "fp16"), help="mixed precision (default: float32)"
    )
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the results here, too")
    parser.add_argument(
        "--save-predictions",
        type=Path,
        metavar="F.json",
        help="write what box_classification or mask_classification (one of them) says of each "
        "region, for tools/report.py",
    )
    args = parser.parse_args(argv)
    if args.data is None:
        args.tasks = args.tasks or list(DEFAULT_TASKS)
    args.tasks = list(dict.fromkeys(args.tasks or ()))
    args.shots = tuple(sorted(set(args.shots)))
    if (args.guide is None) != (args.guide_weights is None):
        parser.error("--guide and --guide-weights go together: a name of timm's and its file")
    return args


def task_options(args: argparse.Namespace) -> dict[str, Any]:
    names = (
        *("split", "annotations", "templates", "dense_map", "benchmark", "label_root"),
        *("ignore_label", "background_threshold", "sliding_windows", "class_map", "train_split"),
        *("shots", "seeds"),
    )
    guide = None if args.guide is None else (args.guide, args.guide_weights)
    return {"guide": guide, **{name: getattr(args, name) for name in names}}


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from fineclip.command_line.images import candidate_classes  # NumPy and Pillow: not for --help

    try:
        check_out_file(args.out)
        check_out_file(args.save_predictions, "--save-predictions")
        check_model_name(args.model, "--model")
        check_weights(args.weights)
        for file in args.annotations:
            require_file(file, "--annotations")
        for option in ("class_map", "guide_weights"):
            if (file := getattr(args, option)) is not None:
                require_file(file, f"--{option.replace('_', '-')}")
        if args.data_root is not None:
            require_folder(args.data_root, "--data-root")
        vocabulary = args.vocabulary and candidate_classes(args.vocabulary)
        from fineclip.devices import usable_device  # torch takes seconds

        usable_device(args.device)
        from mmengine.logging import MMLogger

        MMLogger.get_instance("mmengine", log_level="WARNING")  # notes are check_data.py's
        from fineclip.evaluation.folder import evaluate_folder, format_table  # open_clip, too

        described = None
        if args.data is not None:
            from fineclip.datasets.description import read_description  # the same
            from fineclip.evaluation.tasks import described_tasks  # the same

            described = read_description(args.data)
            args.data_root = described.file.parent
            args.tasks = args.tasks or described_tasks(described, args.split)

        report = evaluate_folder(
            args.model,
            args.weights,
            args.data_root,
            tasks=args.tasks,
            image_size=args.image_size,
            resize=args.resize,
            vocabulary=vocabulary,
            batch_size=args.batch_size,
            workers=args.workers,
            device=args.device,
            amp=args.amp,
            save_predictions=args.save_predictions,
            notify=lambda line: print(line, flush=True),
            described=described,
            **task_options(args),
        )
        print(format_table(report))
        if args.out:
            write_atomically(args.out, json.dumps(report, indent=2) + "\n")
    except (ValueError, OSError) as error:
        return report_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
