#!/usr/bin/env python
r"""Time and memory of CAT-Seg's inference against its plain formulas; the answers are compared.

Weights and pixels are random. The setting of the ADE20K-847 benchmark:

  python tools/benchmark_segmentation.py --model ViT-B/16 --vocabulary ade847
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
    silence_libraries,
)
from fineclip.files import write_atomically
from fineclip.interrupts import run_command
from fineclip.text.vocabulary import load_vocabulary

MODES = ("lean", "one_by_one", "plain")
YARDSTICKS = Path(__file__).parent / "yardsticks"  # slow twins, no part of the packages


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=__doc__,
        epilog="modes: lean: the segmenter as it is, windows of all images together; one_by_one: "
        "one window at a\ntime; plain: the release's formulas. Vocabularies are encoded once in "
        "all of them, as in the release.",
    )
    parser.add_argument("--model", default="ViT-B/16", metavar="M", help="CLIP model")
    parser.add_argument("--vocabulary", default="ade847", metavar="F", help="class list")
    parser.add_argument(
        "--grid",
        type=positive,
        default=24,
        metavar="N",
        help="side of CLIP's input in patches",
    )
    parser.add_argument(
        "--image-size",
        "--image",
        type=positive,
        nargs=2,
        default=(512, 683),
        metavar=("H", "W"),
        help="height and width of the image in pixels",
    )
    parser.add_argument(
        "--whole-image", action="store_true", help="one input in place of sliding windows"
    )
    parser.add_argument(
        "--memory-budget",
        type=real_number(0, above=True),
        metavar="GIB",
        help="of the lean mode (default: 2)",
    )
    parser.add_argument(
        "--modes",
        default=",".join(MODES),
        metavar="M,M,...",
        help=f"out of {', '.join(MODES)}; the others are compared with the first",
    )
    parser.add_argument(
        "--batch-size", type=positive, default=1, metavar="N", help="images at a time"
    )
    parser.add_argument(
        "--rounds",
        type=positive,
        default=1,
        metavar="N",
        help="measurements of each mode, by turns; the fastest counts",
    )
    add_device(parser)
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads (default: torch's choice)"
    )
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the figures here too")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    silence_libraries()
    try:
        check_out_file(args.out)
        load_vocabulary(args.vocabulary)
        if unknown := sorted(set(args.modes.split(",")) - set(MODES)):
            raise ValueError(f"--modes: unknown {', '.join(unknown)}; known: {', '.join(MODES)}")
        from fineclip.devices import usable_device  # torch takes seconds
        from segmentation.experiments.inference_benchmark import (  # detectron2, too
            InferenceSettings,
            benchmark_modes,
            mode_table,
        )

        settings = InferenceSettings(
            model=args.model,
            vocabulary=args.vocabulary,
            grid=args.grid,
            height=args.image_size[0],
            width=args.image_size[1],
            images=args.batch_size,
            sliding_window=not args.whole_image,
            memory_budget=args.memory_budget and int(args.memory_budget * 2**30),
            device=str(usable_device(args.device)),
            threads=args.threads,
            yardstick=str(YARDSTICKS / "plain_inference.py"),
        )
        result = benchmark_modes(
            settings,
            args.modes.split(","),
            lambda line: print(line, file=sys.stderr, flush=True),
            rounds=args.rounds,
        )
    except (ValueError, OSError, RuntimeError) as error:
        return report_error(error)
    print(mode_table(result))
    if args.out:
        write_atomically(args.out, json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
