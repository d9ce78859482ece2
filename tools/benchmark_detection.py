#!/usr/bin/env python
r"""Where an F-ViT spends its time on an image: trunk, pyramid, RPN, RoI head, score fusion.

Weights, classes and pictures are random; the size of the vocabulary, not its names, costs time.
Several modes take turns, pass by pass, and are compared with the first.

  python tools/benchmark_detection.py --config configs/detection/ov-coco_vit-b-16.py
  python tools/benchmark_detection.py --image-size 480 640 --modes released_padding,own_padding
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fineclip.command_line import (
    ToolParser,
    add_cfg_options,
    add_config,
    add_device,
    check_out_file,
    positive,
    report_error,
    silence_libraries,
)
from fineclip.files import write_atomically
from fineclip.interrupts import run_command

MODES = (
    *("float32", "bf16", "fp16", "compiled", "released_padding", "own_padding"),
    *("one_by_one", "mmdet_heads"),
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=__doc__,
        epilog="modes: float32, bf16, fp16: the precision; compiled: blocks and heads through "
        "torch.compile;\nreleased_padding, own_padding: images padded to the config's square, or "
        "to their own size;\none_by_one: the images of a batch one at a time; mmdet_heads: NMS of "
        "detections, pooling and\nlayout of masks as mmdet has them.",
    )
    add_config(parser, "of the detector", default="configs/detection/ov-coco_vit-b-16.py")
    parser.add_argument(
        "--image-size",
        type=positive,
        nargs="+",
        default=[640],
        metavar="PX",
        help="one side, or height and width",
    )
    parser.add_argument(
        "--batch-size", "--batch", type=positive, default=1, metavar="N", help="images at a time"
    )
    parser.add_argument(
        "--classes",
        type=positive,
        metavar="K",
        help="size of the vocabulary (default: the config's)",
    )
    parser.add_argument(
        "--repeats",
        type=positive,
        default=5,
        metavar="N",
        help="measured passes of each mode; the fastest counts",
    )
    parser.add_argument(
        "--modes",
        default="float32",
        metavar="M,M,...",
        help=f"out of {', '.join(MODES)} (default: float32)",
    )
    parser.add_argument(
        "--amp",
        choices=("bf16", "fp16"),
        help="mixed precision of modes that are not about it (default: float32)",
    )
    add_device(parser)
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads (default: torch's choice)"
    )
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the figures here, too")
    add_cfg_options(parser)
    args = parser.parse_args(argv)
    if len(args.image_size) > 2:
        parser.error("--image-size takes one side, or height and width")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    silence_libraries()
    from fineclip.configuration.reading import read_config  # mmengine: not for --help

    try:
        check_out_file(args.out)
        if unknown := sorted(set(args.modes.split(",")) - set(MODES)):
            raise ValueError(f"--modes: unknown {', '.join(unknown)}; known: {', '.join(MODES)}")
        read_config(args.config, args.cfg_options)
        import torch  # seconds

        from detection.experiments.inference_benchmark import (  # mmdet takes 10 s
            benchmark_inference,
            format_split,
        )
        from fineclip.devices import usable_device  # torch, too
        from fineclip.engine import load_config  # the same

        if args.threads:
            torch.set_num_threads(args.threads)
        result = benchmark_inference(
            load_config(args.config, args.cfg_options),
            modes=args.modes.split(","),
            image_size=(args.image_size[0], args.image_size[-1]),
            batch=args.batch_size,
            classes=args.classes,
            repeats=args.repeats,
            amp=args.amp,
            device=str(usable_device(args.device)),
            report=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except (ValueError, OSError, RuntimeError) as error:
        return report_error(error)
    print(format_split(result))
    if args.out:
        write_atomically(args.out, json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
