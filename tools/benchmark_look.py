#!/usr/bin/env python
r"""Seconds per photograph of each view that tools/look.py gives, at several input sizes.

Weights, words and pixels are random. Each view is measured as if it alone were asked for, from the
photograph (640 x 480 pixels) on; the picture is drawn from answers that are there.
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
    report_error,
    silence_libraries,
)
from fineclip.configuration.model_names import check_model_name
from fineclip.files import write_atomically
from fineclip.interrupts import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument("--model", default="ViT-B-16", metavar="M", help="open_clip name")
    parser.add_argument(
        "--image-size",
        type=positive,
        nargs="+",
        default=[224, 448],
        metavar="PX",
        help="sides of the network input, multiples of the patch",
    )
    parser.add_argument(
        "--words", type=positive, default=5, metavar="N", help="looked for and drawn"
    )
    parser.add_argument(
        "--rounds", type=positive, default=3, metavar="N", help="the median of so many counts"
    )
    add_device(parser)
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads (default: torch's choice)"
    )
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the figures here, too")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    silence_libraries()
    try:
        check_model_name(args.model, "--model")
        check_out_file(args.out)
        import torch  # seconds

        from fineclip.devices import usable_device  # torch, too
        from fineclip.experiments.look_benchmark import benchmark_looking, look_table  # the same

        if args.threads:
            torch.set_num_threads(args.threads)
        rows = benchmark_looking(
            args.model,
            args.image_size,
            words=args.words,
            rounds=args.rounds,
            device=usable_device(args.device),
            report=lambda line: print(f"{line} ...", file=sys.stderr, flush=True),
        )
    except (ValueError, OSError) as error:
        return report_error(error)
    print(f"{args.model}, {torch.get_num_threads()} threads, median of {args.rounds}")
    print(look_table(rows))
    if args.out:
        facts = {"model": args.model, "torch": torch.__version__, "words": args.words}
        report = {**facts, "threads": torch.get_num_threads(), "rows": rows}
        write_atomically(args.out, json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
