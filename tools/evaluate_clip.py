#!/usr/bin/env python
"""Evaluates a CLIP model zero-shot on a COCO-format folder: box classification and retrieval."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fineclip.command_line import candidate_classes
from fineclip.evaluation.folder import evaluate_folder, format_table
from fineclip.evaluation.tasks import TASKS
from fineclip.files import write_atomically
from fineclip.interrupts import run_command
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
        "bicubic, black at the right and bottom (CLIPSelf's dense protocol) (default: %(default)s)",
    )
    parser.add_argument(
        "--templates",
        default="vild",
        help=f"prompts: {', '.join(TEMPLATES)}, or a string with {{}} for the class name "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--vocabulary",
        nargs="+",
        metavar="V",
        help="candidate classes: " + ", ".join(known_vocabularies()) + "; or a file (JSON, or text "
        "with a name a line); or several names (default: the categories of the annotation file)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="images (default: %(default)s)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        metavar="N",
        help="processes that load (default: %(default)s)",
    )
    parser.add_argument("--device", help="default: the accelerator if there is one")
    parser.add_argument("--amp", choices=("bf16", "fp16"), help="default: full precision")
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the results here too")
    args = parser.parse_args(argv)
    for name, least in (("batch_size", 1), ("workers", 0), ("image_size", 1)):
        value = getattr(args, name)
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    args.tasks = list(dict.fromkeys(args.tasks))
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        if args.out and not args.out.resolve().parent.is_dir():
            raise FileNotFoundError(f"--out: folder {args.out.resolve().parent} does not exist")
        report = evaluate_folder(
            args.model,
            args.pretrained,
            args.data_root,
            tasks=args.tasks,
            split=args.split,
            annotations=args.annotations,
            image_size=args.image_size,
            resize=args.resize,
            templates=args.templates,
            vocabulary=args.vocabulary and candidate_classes(args.vocabulary),
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
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
