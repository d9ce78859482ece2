#!/usr/bin/env python
"""Trains the rows of a table of objectives from the same start weights, and compares them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from mmengine.config import DictAction

from fineclip.experiments.ablation import Ablation, run_ablation
from fineclip.experiments.ablation_results import table


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Finished trainings are kept: an interrupted table continues with what is missing, "
        "a row whose settings changed trains afresh. results.json, results.md and results.png in "
        "the work dir are current after every training. Exit code 2 and one line on standard "
        "error for bad usage, 1 where a training failed.",
    )
    parser.add_argument(
        "--config", required=True, metavar="CONFIG", help="for example configs/ablation/scenes.py"
    )
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/ablation"), metavar="D")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="S", help="default: 0")
    parser.add_argument(
        "--rows", nargs="+", metavar="NAME", help="train only these (default: all of the config)"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        default={},
        metavar="K=V",
        help="overrides: top-level variables (images=N epochs=N lr=X workers=N) or dotted keys "
        "(rows.SILC.options.num_local=4)",
    )
    return parser.parse_args(argv)


def _end_trainings_on_sigterm() -> None:
    """SIGTERM interrupts like Ctrl-C, which ends running trainings on the way out."""
    program = os.getpid()

    def interrupt(number: int, frame: object) -> None:
        # Processes forked to draw scenes inherit this handler, and SIGTERM is how they are ended.
        if os.getpid() != program:
            os._exit(128 + number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    _end_trainings_on_sigterm()
    start = time.monotonic()
    try:
        rows, failures = run_ablation(
            Ablation.from_config(args.config, args.cfg_options),
            args.work_dir,
            seeds=args.seeds,
            rows=args.rows,
            report=lambda line: print(line, flush=True),
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues with what is missing", file=sys.stderr)
        return 130
    print(f"\n{table(rows)}\n\n{args.work_dir / 'results.json'} ({time.monotonic() - start:.0f} s)")
    for line in failures:
        print(f"error: {line}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
