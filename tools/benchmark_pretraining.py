#!/usr/bin/env python
r"""Time and memory of a FineCLIP step: plain, chunked, and the way of the older releases.

Weights and pictures are random. The paper's setting, on a GPU:

  python tools/benchmark_pretraining.py --model EVA02-B-16 --batch 32 --boxes 20 --amp bf16 \
      --modes plain,chunked,auto,compiled,chunked_compiled --memory-budget 5
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import open_clip

from fineclip.engine.optim import default_device
from fineclip.experiments.loading_benchmark import format_loading, measure_loading
from fineclip.experiments.pretraining_benchmark import (
    MODES,
    StepSettings,
    benchmark_steps,
    step_table,
)
from fineclip.files import write_atomically

YARDSTICKS = Path(__file__).parent / "yardsticks"  # slow twins, no part of the packages


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="modes: " + "; ".join(f"{name}: {what}" for name, what in MODES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="EVA02-B-16", help="open_clip name (%(default)s)")
    parser.add_argument("--batch", type=int, default=4, metavar="B", help="images (%(default)s)")
    parser.add_argument(
        "--boxes", type=int, default=10, metavar="K", help="box slots per image (%(default)s)"
    )
    parser.add_argument(
        "--filled",
        type=float,
        default=1.0,
        metavar="F",
        help="share of the slots that hold a box (%(default)s)",
    )
    parser.add_argument("--image-size", type=int, metavar="PX", help="default: the model's")
    parser.add_argument(
        "--modes",
        default="plain,chunked,padded",
        metavar="M,M,...",
        help=f"out of {', '.join(MODES)} (%(default)s)",
    )
    parser.add_argument(
        "--train-text", action="store_true", help="train the text tower, which is frozen otherwise"
    )
    parser.add_argument("--amp", choices=("bf16", "fp16"), help="default: float32")
    parser.add_argument("--device", default=str(default_device()), help="default: %(default)s")
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
        type=float,
        metavar="GIB",
        help="activations kept in mode auto (default: half of what is free)",
    )
    parser.add_argument("--steps", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    parser.add_argument(
        "--image-root",
        type=Path,
        metavar="DIR",
        help="measure the loader as well, on the JPEGs of this folder",
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
    if args.model not in open_clip.list_models():
        raise ValueError(f"unknown model {args.model!r}; open_clip.list_models() lists the names")
    for name in ("batch", "boxes", "steps"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(args, name)}")
    if not 0 < args.filled <= 1:
        raise ValueError(f"--filled must be above 0 and at most 1, got {args.filled}")
    if (args.image_root is None) != (args.annotations is None):
        raise ValueError("the loader needs both --image-root and --annotations")
    for path in (args.image_root, args.annotations):
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{path} does not exist")


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    step = StepSettings(
        mode="plain",
        model=args.model,
        batch=args.batch,
        boxes=args.boxes,
        filled=args.filled,
        image_size=args.image_size,
        trainable=("image", "logit_scale", *(["text"] if args.train_text else [])),
        amp=args.amp,
        device=args.device,
        chunk_sizes=dict(args.chunk_sizes) if args.chunk_sizes else None,
        memory_budget=args.memory_budget and args.memory_budget * 2**30,
        steps=args.steps,
        threads=args.threads,
        yardstick=str(YARDSTICKS / "padded_pretrainer.py"),
    )
    try:
        check(args)
        result = benchmark_steps(
            step, args.modes.split(","), lambda line: print(line, file=sys.stderr, flush=True)
        )
        if args.image_root:
            result["loader"] = measure_loading(
                args.image_root,
                args.annotations,
                yardstick=YARDSTICKS / "pillow_loading.py",
                boxes=args.boxes,
            )
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(step_table(result))
    if "loader" in result:
        print(format_loading(result["loader"]))
    if args.out:
        write_atomically(args.out, json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
