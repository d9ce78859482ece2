#!/usr/bin/env python
"""Tests a checkpoint with the test data and metrics of a config, of pretraining or detection."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fineclip.checkpoints import CheckpointError
from fineclip.command_line import report_error
from fineclip.engine import OverridesAction, build_runner, explaining_errors, load_config
from fineclip.files import write_atomically
from fineclip.images import UnusableImageError
from fineclip.interrupts import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit code 2 and one line on standard error for bad usage or bad input.",
    )
    parser.add_argument("config", metavar="CONFIG", help="a Python config file")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint of tools/train.py")
    parser.add_argument("--work-dir", metavar="D", help="where the log goes")
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the metrics here")
    parser.add_argument("--launcher", choices=("none", "pytorch"), default="none")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=OverridesAction,
        default={},
        metavar="K=V",
        help="overrides",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        if args.out and not args.out.resolve().parent.is_dir():
            raise FileNotFoundError(f"--out: folder {args.out.resolve().parent} does not exist")
        config = load_config(args.config, args.cfg_options)
        if config.get("test_cfg") is None:
            raise ValueError(f"{args.config} has no test_cfg, so there is nothing to test")
        config.load_from = args.checkpoint
        runner = build_runner(config, work_dir=args.work_dir, launcher=args.launcher)
        with explaining_errors(config):
            _ = runner.test_loop
    except (CheckpointError, ValueError, FileNotFoundError, NotADirectoryError) as error:
        return report_error(error)
    try:
        metrics = runner.test()
    except UnusableImageError as error:
        return report_error(error)
    if args.out and runner.rank == 0:
        write_atomically(args.out, json.dumps(metrics, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
