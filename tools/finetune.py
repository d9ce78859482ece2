#!/usr/bin/env python
r"""Continues a trained detector or segmenter on data of one's own, and measures what it keeps.

python tools/finetune.py --data my/data.yaml --start work_dirs/ov-coco_vit-b-16 \
      --keep rehearse interpolate --work-dir work_dirs/my

The start is asked for one's own classes and for those it was trained with (or of --reference),
trained on one's own images, and asked again. The work dir gets report.html, summary.json and the
weights, which detect.py and segment.py take as --weights.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fineclip.command_line import (
    ERRORS_EPILOG,
    ToolParser,
    integer_argument,
    positive,
    real_number,
    report_error,
)
from fineclip.interrupts import run_command

TUNERS = {
    "detection": "detection.finetuning.jobs:{}_detector",
    "segmentation": "segmentation.finetuning.jobs:{}_segmenter",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=__doc__,
        epilog="Killed or interrupted, the same command goes on where it was; a stage whose "
        f"settings changed\nstarts anew.\n{ERRORS_EPILOG}",
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="F.yaml",
        help="description of your data (docs/data.md), such as tools/import_data.py writes",
    )
    parser.add_argument(
        "--start",
        type=Path,
        required=True,
        metavar="PATH",
        help="the work dir of a training of a detector or segmenter, or a checkpoint in it",
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
        "--rehearse",
        type=Path,
        metavar="F.yaml",
        help="description of the data that --keep rehearse takes (default: those that the start "
        "was trained on)",
    )
    parser.add_argument(
        "--share",
        type=real_number(0, 0.95),
        default=0.2,
        metavar="X",
        help="of the training images that are rehearsed",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="F.yaml",
        help="description of the data on which the kept knowledge is measured (default: those "
        "that the start is evaluated on)",
    )
    parser.add_argument(
        "--alphas",
        type=real_number(0, 1),
        nargs="+",
        default=[],
        metavar="A",
        help="shares of the fine-tuned weights that --keep interpolate tries (default: 0.1 to 1 "
        "in steps of 0.1)",
    )
    parser.add_argument("--seed", type=integer_argument(0), default=0, metavar="S", help="of all draws")
    parser.add_argument(
        "--amp", choices=("bf16", "fp16"), help="mixed precision of the training (default: float32)"
    )
    group = parser.add_argument_group("schedule, which else follows from the number of images")
    group.add_argument("--epochs", type=positive, metavar="N", help="passes over your images")
    group.add_argument("--batch-size", type=positive, metavar="N", help="images of a step")
    group.add_argument("--lr", type=real_number(0), metavar="X", help="learning rate")
    args = parser.parse_args(argv)
    if args.rehearse and "rehearse" not in args.keep:
        parser.error("--rehearse names data for --keep rehearse, which is not there")
    if args.alphas and "interpolate" not in args.keep:
        parser.error("--alphas are for --keep interpolate, which is not there")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from fineclip.experiments.finetuning import (  # torch: not for --help
        ALPHAS,
        FineTuner,
        FineTuning,
        run_finetuning,
        task_of,
    )
    from fineclip.reporting.finetuning import write_finetuning_report  # matplotlib, too

    schedule = {"epochs": args.epochs, "batch_size": args.batch_size, "lr": args.lr}
    settings = FineTuning(
        data=args.data,
        start=args.start,
        keep=frozenset(args.keep),
        rehearse=args.rehearse,
        share=args.share,
        reference=args.reference,
        alphas=tuple(args.alphas) or ALPHAS,
        seed=args.seed,
        amp=args.amp,
        recipe={name: value for name, value in schedule.items() if value is not None},
    )
    try:
        functions = TUNERS[task_of(args.start)]
        tuner = FineTuner(functions.format("finetune"), functions.format("examine"))
        summary = run_finetuning(
            settings, tuner, args.work_dir, lambda line: print(line, flush=True)
        )
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
