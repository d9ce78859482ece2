#!/usr/bin/env python
r"""Time and memory of CAT-Seg's inference against its release's formulas; answers are compared.

Weights and pixels are random. The setting of the ADE20K-847 benchmark:

  python tools/benchmark_segmentation.py --model ViT-B/16 --vocabulary ade847

Where a training step spends its time:

  python tools/benchmark_segmentation.py --training-step
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

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
    parser.add_argument(
        "--training-step", action="store_true", help="measure a step of training by its stages"
    )
    parser.add_argument("--model", default="ViT-B/16", metavar="M", help="CLIP model")
    parser.add_argument(
        "--vocabulary",
        metavar="F",
        help="class list (default: ade847; of a training step coco_stuff171)",
    )
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
        metavar=("H", "W"),
        help="height and width of the image in pixels (default: 512 683; of a training step "
        "384 384)",
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
        help="measurements of each mode, by turns, or steps; the fastest counts",
    )
    parser.add_argument(
        "--amp", choices=("bf16",), help="mixed precision of a training step (default: float32)"
    )
    add_device(parser)
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads (default: torch's choice)"
    )
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the figures here too")
    args = parser.parse_args(argv)
    args.vocabulary = args.vocabulary or ("coco_stuff171" if args.training_step else "ade847")
    args.image_size = args.image_size or ((384, 384) if args.training_step else (512, 683))
    return args


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
        result, table = _measured(args, settings)
    except (ValueError, OSError, RuntimeError) as error:
        return report_error(error)
    print(table)
    if args.out:
        write_atomically(args.out, json.dumps(result, indent=2) + "\n")
    return 0


def _measured(args: argparse.Namespace, settings: Any) -> tuple[dict[str, Any], str]:
    """Figures, and the table of them."""
    from segmentation.experiments import inference_benchmark, step_benchmark  # detectron2: seconds

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if args.training_step:
        settings = dataclasses.replace(settings, sliding_window=False, network={})
        found = step_benchmark.benchmark_step(
            settings, repeats=args.rounds, amp=args.amp is not None, report=report
        )
        return found, step_benchmark.step_split(found)
    found = inference_benchmark.benchmark_modes(
        settings, args.modes.split(","), report, rounds=args.rounds
    )
    return found, inference_benchmark.mode_table(found)


if __name__ == "__main__":
    sys.exit(run_command(main))
