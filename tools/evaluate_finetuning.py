#!/usr/bin/env python
r"""Fine-tunes starts by each means of tools/finetune.py, and prints what they learn and keep.

python tools/evaluate_finetuning.py --starts work_dirs/fvit/0 work_dirs/fvit/1 \
      --data data/own/0 data/own/1 --work-dir work_dirs/means

docs/finetuning.md has the table of the scenes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fineclip.command_line import ToolParser, report_error
from fineclip.command_line.finetuning import add_finetuning, finetuning_settings
from fineclip.interrupts import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=__doc__,
        epilog="The table is of what is finished; the same command goes on with the rest, and "
        "with --table\nprints alone.",
    )
    parser.add_argument(
        "--starts", type=Path, nargs="+", required=True, metavar="PATH", help="one for each seed"
    )
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        metavar="F.yaml",
        help="descriptions of own data, one for each start",
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("work_dirs/finetuning"),
        metavar="D",
        help="where everything goes",
    )
    parser.add_argument(
        "--means",
        nargs="+",
        choices=("plain", "frozen", "rehearse"),
        default=["plain", "frozen", "rehearse"],
        help="which trainings; of plain and rehearse the mixes with the start as well",
    )
    parser.add_argument("--table", action="store_true", help="train nothing, print the table")
    add_finetuning(parser)
    args = parser.parse_args(argv)
    if len(args.starts) != len(args.data):
        parser.error(f"{len(args.starts)} --starts and {len(args.data)} --data: pairs are expected")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from fineclip.experiments.finetuning import FineTuning  # mmengine: not for --help
    from fineclip.experiments.finetuning_table import means_table, run_means  # the same

    folders = [args.work_dir / f"seed{seed}" for seed in range(len(args.starts))]
    settings = finetuning_settings(args)
    try:
        for seed, (start, data) in enumerate(zip(args.starts, args.data, strict=True)):
            if not args.table:
                one = FineTuning(data=data, start=start, seed=seed, **settings)
                run_means(one, folders[seed], args.means, lambda line: print(line, flush=True))
    except (ValueError, OSError) as error:
        return report_error(error)
    except KeyboardInterrupt as stop:
        print("\ninterrupted; the same command goes on where it was", file=sys.stderr)
        return getattr(stop, "code", 130)
    print(means_table(folders))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
