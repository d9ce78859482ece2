#!/usr/bin/env python
"""Trains the rows of a table of objectives from the same start weights, and compares them."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from fineclip.command_line import report_error
from fineclip.engine import OverridesAction
from fineclip.experiments.ablation import Ablation, run_ablation
from fineclip.experiments.engine import interrupt_on_sigterm
from fineclip.experiments.results import ablation_table


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Finished trainings are kept and interrupted ones continue from their last "
        "checkpoint; a row whose settings changed trains afresh. results.json, results.md and "
        "results.png in the work dir are current after every training. Exit code 2 and one line "
        "on standard error for bad usage, 1 where a training failed.",
    )
    parser.add_argument("--config", required=True, metavar="CONFIG", help="one of configs/ablation")
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("work_dirs/ablation"),
        metavar="D",
        help="default: %(default)s",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="S", help="default: 0")
    parser.add_argument(
        "--rows", nargs="+", metavar="NAME", help="train only these (default: all of the config)"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=OverridesAction,
        default={},
        metavar="K=V",
        help="overrides: top-level variables (data_root=D epochs=N lr=X workers=N) or dotted keys "
        "(rows.SILC.options.num_local=4)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    interrupt_on_sigterm()
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
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues with what is missing", file=sys.stderr)
        return 130
    seconds = time.monotonic() - start
    print(f"\n{ablation_table(rows, ablation.metrics)}\n")
    print(f"{args.work_dir / 'results.json'} ({seconds:.0f} s)")
    for line in failures:
        print(f"error: {line}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
