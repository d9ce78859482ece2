#!/usr/bin/env python
"""Evaluates a CLIP model zero-shot on a COCO-format folder: box classification and retrieval."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fineclip.command_line import (
    ToolParser,
    add_device,
    add_weights,
    check_out_file,
    integer_argument,
    positive,
    report_error,
)
from fineclip.configuration.model_names import check_model_name
from fineclip.files import require_file, require_folder, write_atomically
from fineclip.interrupts import run_command
from fineclip.text.templates import TEMPLATES
from fineclip.text.vocabulary import known_vocabularies
from fineclip.weights import check_weights

TASKS = ("box_classification", "retrieval")


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
    parser.add_argument(
        "--data-root",
        required=True,
        type=Path,
        metavar="D",
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
    parser.add_argument(
        "--split",
        metavar="S",
        help="its part to evaluate on (default: val2017 if there is such a folder, else val)",
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
    parser.add_argument("--batch-size", type=positive, default=32, metavar="N", help="images")
    parser.add_argument(
        "--workers", type=integer_argument(0), default=2, metavar="N", help="processes that load"
    )
    add_device(parser)
    parser.add_argument(
        "--amp", choices=("bf16", "fp16"), help="mixed precision (default: float32)"
    )
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the results here, too")
    args = parser.parse_args(argv)
    args.tasks = list(dict.fromkeys(args.tasks))
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from fineclip.command_line.images import candidate_classes  # NumPy and Pillow: not for --help

    try:
        check_out_file(args.out)
        check_model_name(args.model, "--model")
        check_weights(args.weights)
        for file in args.annotations:
            require_file(file, "--annotations")
        require_folder(args.data_root, "--data-root")
        vocabulary = args.vocabulary and candidate_classes(args.vocabulary)
        from fineclip.devices import usable_device  # torch takes seconds

        usable_device(args.device)
        from mmengine.logging import MMLogger

        MMLogger.get_instance("mmengine", log_level="WARNING")  # notes are check_data.py's
        from fineclip.evaluation.folder import evaluate_folder, format_table  # open_clip, too

        report = evaluate_folder(
            args.model,
            args.weights,
            args.data_root,
            tasks=args.tasks,
            split=args.split,
            annotations=args.annotations,
            image_size=args.image_size,
            resize=args.resize,
            templates=args.templates,
            vocabulary=vocabulary,
            batch_size=args.batch_size,
            workers=args.workers,
            device=args.device,
            amp=args.amp,
            notify=lambda line: print(line, flush=True),
        )
        print(format_table(report))
        if args.out:
            write_atomically(args.out, json.dumps(report, indent=2) + "\n")
    except (ValueError, OSError) as error:
        return report_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
