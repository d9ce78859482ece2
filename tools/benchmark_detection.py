#!/usr/bin/env python
r"""Where an F-ViT spends its time on an image: trunk, pyramid, RPN, RoI head, score fusion.

Weights, classes and pictures are random; the size of the vocabulary, not its names, costs time.

  python tools/benchmark_detection.py --config configs/detection/ov-coco_vit-b-16.py
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path

import torch

from fineclip.command_line import report_error
from fineclip.engine import OverridesAction, default_device, load_config
from fineclip.files import write_atomically


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config",
        default="configs/detection/ov-coco_vit-b-16.py",
        metavar="C",
        help="config of the detector (default: %(default)s)",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        nargs="+",
        default=[640],
        metavar="PX",
        help="one side, or height and width (default: 640)",
    )
    parser.add_argument("--batch", type=int, default=1, metavar="B", help="images at a time")
    parser.add_argument(
        "--classes", type=int, metavar="K", help="size of the vocabulary (default: the config's)"
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="default: %(default)s")
    parser.add_argument("--amp", choices=("bf16", "fp16"), help="default: float32")
    parser.add_argument("--device", default=str(default_device()), help="default: %(default)s")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the figures here too")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=OverridesAction,
        default={},
        metavar="K=V",
        help="overrides",
    )
    args = parser.parse_args(argv)
    if len(args.image_size) > 2:
        parser.error("--image-size takes one side, or height and width")
    for name in ("batch", "classes", "repeats", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            parser.error(f"--{name} must be at least 1, got {value}")
    if min(args.image_size) < 1:
        parser.error(f"--image-size must be at least 1, got {min(args.image_size)}")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.getLogger().setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    from detection.experiments.inference_benchmark import (  # mmdet takes 10 s: --help is fast
        benchmark_inference,
        format_split,
    )

    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        result = benchmark_inference(
            load_config(args.config, args.cfg_options),
            image_size=(args.image_size[0], args.image_size[-1]),
            batch=args.batch,
            classes=args.classes,
            repeats=args.repeats,
            amp=args.amp,
            device=args.device,
            report=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except (ValueError, OSError, RuntimeError) as error:
        return report_error(error)
    print(format_split(result))
    if args.out:
        write_atomically(args.out, json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
