#!/usr/bin/env python
"""Trains the rows of a table of objectives from the same start weights, and compares them."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from fineclip.command_line import (
    ToolParser,
    add_cfg_options,
    add_config,
    add_experiment,
    report_error,
)
from fineclip.interrupts import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=__doc__,
        epilog="Finished trainings are kept and interrupted ones continue from their last "
        "checkpoint; a row whose\nsettings changed trains afresh. results.json, results.md and "
        "results.png in the work dir are current\nafter every training. Exit code 2 and one line "
        "on standard error for bad usage, 1 where a training failed.",
    )
    add_config(parser, "one of configs/ablation", required=True)
    add_experiment(parser, Path("work_dirs/ablation"))
    parser.add_argument(
        "--rows", nargs="+", metavar="NAME", help="train only these (default: all of the config)"
    )
    add_cfg_options(
        parser,
        "overrides: top-level variables (data_root=D epochs=N lr=X workers=N) or dotted keys "
        "(rows.SILC.options.num_local=4)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from fineclip.configuration.reading import read_config  # mmengine: not for --help

    try:
        read_config(args.config, args.cfg_options)
    except (ValueError, OSError) as error:
        return report_error(error)
    from fineclip.experiments.ablation import Ablation, run_ablation  # torch takes seconds
    from fineclip.experiments.results import ablation_table  # matplotlib, too

    start = time.monotonic()
    try:
        ablation = Ablation.from_config(args.config, args.cfg_options)
        rows, failures = run_ablation(
            ablation,
            args.work_dir,
            seeds=args.seeds,
            rows=args.rows,
            report=lambda line: print(line, flush=True),
        )
    except (ValueError, OSError) as error:
        return report_error(error)
    except KeyboardInterrupt as stop:
        print("\ninterrupted; the same command continues with what is missing", file=sys.stderr)
        return getattr(stop, "code", 130)
    seconds = time.monotonic() - start
    print(f"\n{ablation_table(rows, ablation.metrics)}\n")
    print(f"{args.work_dir / 'results.json'} ({seconds:.0f} s)")
    for line in failures:
        print(f"error: {line}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
