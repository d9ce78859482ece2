#!/usr/bin/env python
r"""Continues a trained detector, segmenter or CLIP on one's own data, and measures what it keeps.

python tools/finetune.py --data my/data.yaml --start work_dirs/ov-coco_vit-b-16 \
      --keep rehearse interpolate --work-dir work_dirs/my

The start is asked for one's own classes and for those it was trained with (or of --reference),
trained on one's own images, and asked again. The work dir gets report.html, summary.json and the
weights, which detect.py, segment.py and look.py take as --weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fineclip.command_line import ERRORS_EPILOG, ToolParser, integer_argument, report_error
from fineclip.command_line.finetuning import add_finetuning, finetuning_settings
from fineclip.interrupts import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=__doc__,
        epilog="Killed or interrupted, the same command goes on where it was; a stage whose "
        f"settings changed\nstarts anew. docs/finetuning.md says what each means keeps.\n"
        f"{ERRORS_EPILOG}",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="F.yaml",
        help="description of your data, such as tools/import_data.py writes",
    )
    parser.add_argument(
        "--start",
        type=Path,
        required=True,
        metavar="PATH",
        help="the work dir of a training of a detector, segmenter or CLIP, or a checkpoint in it",
    )
    parser.add_argument(
        "--work-dir", type=Path, required=True, metavar="D", help="where everything goes"
    )
    parser.add_argument(
        "--keep",
        nargs="+",
        choices=("frozen", "rehearse", "interpolate"),
        default=[],
        help="what keeps the start's knowledge: frozen, most of the network stays as it is; "
        "rehearse, images of the start's training among one's own; interpolate, the best mix of "
        "the start's weights and the result's",
    )
    parser.add_argument(
        "--seed", type=integer_argument(0), default=0, metavar="S", help="of all draws"
    )
    add_finetuning(parser)
    args = parser.parse_args(argv)
    if args.rehearse and "rehearse" not in args.keep:
        parser.error("--rehearse names data for --keep rehearse, which is not there")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from fineclip.experiments.finetuning import FineTuning, run_finetuning  # mmengine: seconds
    from fineclip.reporting.finetuning import write_finetuning_report  # matplotlib, too

    settings = FineTuning(
        data=args.data,
        start=args.start,
        keep=frozenset(args.keep),
        seed=args.seed,
        **finetuning_settings(args),
    )
    try:
        summary = run_finetuning(settings, args.work_dir, lambda line: print(line, flush=True))
        page = write_finetuning_report(summary, args.work_dir)
    except (ValueError, OSError) as error:
        return report_error(error)
    except KeyboardInterrupt as stop:
        print("\ninterrupted; the same command goes on where it was", file=sys.stderr)
        return getattr(stop, "code", 130)
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
