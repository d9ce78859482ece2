#!/usr/bin/env python
r"""Time and memory of a FineCLIP step: plain, chunked, and with all that a step can do without.

Weights and pictures are random. The paper's setting, on a GPU:

  python tools/benchmark_pretraining.py --model EVA02-B-16 --batch-size 32 --boxes 20 --amp bf16 \
      --modes plain,chunked,auto,compiled,chunked_compiled --memory-budget 5
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fineclip.command_line import (
    ToolParser,
    add_device,
    check_out_file,
    positive,
    real_number,
    report_error,
)
from fineclip.configuration.model_names import check_model_name
from fineclip.experiments.step_modes import MODES
from fineclip.files import require_file, require_folder, write_atomically
from fineclip.interrupts import run_command

YARDSTICKS = Path(__file__).parent / "yardsticks"  # slow twins, no part of the packages


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=__doc__,
        epilog="modes:\n" + "\n".join(f"  {name}: {what}" for name, what in MODES.items()),
    )
    parser.add_argument("--model", default="EVA02-B-16", metavar="M", help="open_clip name")
    parser.add_argument(
        "--batch-size", "--batch", type=positive, default=4, metavar="N", help="images"
    )
    parser.add_argument(
        "--boxes", type=positive, default=10, metavar="K", help="box slots per image"
    )
    parser.add_argument(
        "--filled",
        type=real_number(0, 1, above=True),
        default=1.0,
        metavar="F",
        help="share of the slots that hold a box",
    )
    parser.add_argument(
        "--image-size", type=positive, metavar="PX", help="side of images (default: the model's)"
    )
    parser.add_argument(
        "--crop-size", type=positive, metavar="PX", help="side of crops (default: the images')"
    )
    parser.add_argument(
        "--modes",
        default="plain,chunked,padded",
        metavar="M,M,...",
        help=f"out of {', '.join(MODES)}",
    )
    parser.add_argument(
        "--train-text", action="store_true", help="train the text tower, which is frozen otherwise"
    )
    parser.add_argument(
        "--amp", choices=("bf16", "fp16"), help="mixed precision (default: float32)"
    )
    add_device(parser)
    parser.add_argument(
        "--chunk-sizes",
        type=_chunk_size,
        nargs="+",
        metavar="NAME=ROWS",
        help="rows at a time of the chunked modes, such as images=8 crops=64 texts=256 "
        "(default: a quarter of images and texts, a tenth of the crops)",
    )
    parser.add_argument(
        "--memory-budget",
        type=real_number(0, above=True),
        metavar="GIB",
        help="activations kept in mode auto (default: half of what is free)",
    )
    parser.add_argument("--steps", type=positive, default=3, metavar="N", help="steps to measure")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads (default: torch's choice)"
    )
    parser.add_argument(
        "--image-root",
        type=Path,
        metavar="DIR",
        help="measure the loader as well, on the JPEGs of this folder (default: not)",
    )
    parser.add_argument("--annotations", type=Path, metavar="JSON", help="their COCO annotations")
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the figures here too")
    return parser.parse_args(argv)


def _chunk_size(text: str) -> tuple[str, int]:
    name, _, rows = text.partition("=")
    if name not in ("images", "crops", "texts") or not rows.isdigit() or int(rows) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be images=N, crops=N or texts=N with N of at least 1"
        )
    return name, int(rows)


def check(args: argparse.Namespace) -> None:
    """Raises ValueError or FileNotFoundError for what argparse cannot see."""
    check_model_name(args.model, "--model")
    check_out_file(args.out)
    if (args.image_root is None) != (args.annotations is None):
        raise ValueError("the loader needs both --image-root and --annotations")
    if unknown := sorted(set(args.modes.split(",")) - set(MODES)):
        raise ValueError(f"--modes: unknown {', '.join(unknown)}; known: {', '.join(MODES)}")
    if args.image_root is not None:
        require_folder(args.image_root, "--image-root")
        require_file(args.annotations, "--annotations")


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        check(args)
        from fineclip.devices import usable_device  # torch takes seconds
        from fineclip.experiments import loading_benchmark, pretraining_benchmark  # the same

        step = pretraining_benchmark.StepSettings(
            mode="plain",
            model=args.model,
            batch=args.batch_size,
            boxes=args.boxes,
            filled=args.filled,
            image_size=args.image_size,
            crop_size=args.crop_size,
            trainable=("image", "logit_scale", *(["text"] if args.train_text else [])),
            amp=args.amp,
            device=str(usable_device(args.device)),
            chunk_sizes=dict(args.chunk_sizes) if args.chunk_sizes else None,
            memory_budget=args.memory_budget and args.memory_budget * 2**30,
            steps=args.steps,
            threads=args.threads,
            yardstick=str(YARDSTICKS / "padded_pretrainer.py"),
        )
        result = pretraining_benchmark.benchmark_steps(
            step, args.modes.split(","), lambda line: print(line, file=sys.stderr, flush=True)
        )
        if args.image_root:
            result["loader"] = loading_benchmark.measure_loading(
                args.image_root,
                args.annotations,
                yardstick=YARDSTICKS / "pillow_loading.py",
                boxes=args.boxes,
            )
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        return report_error(error)
    print(pretraining_benchmark.step_table(result))
    if "loader" in result:
        print(loading_benchmark.format_loading(result["loader"]))
    if args.out:
        write_atomically(args.out, json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
