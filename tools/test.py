#!/usr/bin/env python
"""Tests a checkpoint with the test data and metrics of a config, of pretraining or detection."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fineclip.command_line import (
    ToolParser,
    add_cfg_options,
    add_data,
    add_launcher,
    check_launcher,
    check_out_file,
    report_error,
)
from fineclip.files import write_atomically
from fineclip.interrupts import run_command
from fineclip.weights import weights_file


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="a Python config file, which is run, or the plain_config.json of a training",
    )
    parser.add_argument(
        "weights", metavar="WEIGHTS", help="a checkpoint of tools/train.py, or its work dir"
    )
    parser.add_argument(
        "--work-dir", metavar="D", help="where the log goes (default: as in training)"
    )
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the metrics here")
    parser.add_argument(
        "--amp", choices=("bf16", "fp16"), help="mixed precision (default: float32)"
    )
    parser.add_argument(
        "--save-predictions",
        type=Path,
        metavar="F.json",
        help="write what is true and what is predicted of each box, for tools/report.py",
    )
    add_data(parser, "test on it, with its classes, in place of the config's data")
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        help="with --data: its part to test on (default: val, or test without one)",
    )
    add_launcher(parser)
    add_cfg_options(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from fineclip.configuration.mistakes import read_sound_config  # mmengine: not for --help

    try:
        check_launcher(args.launcher)
        check_out_file(args.out)
        check_out_file(args.save_predictions, "--save-predictions")
        weights = weights_file(args.weights)
        if args.data is not None:
            from fineclip.command_line.described import described_run  # torch: not for others

            args.cfg_options = described_run(
                args.config, args.data, args.cfg_options, parts=("test",), split=args.split
            ).options
        elif args.split is not None:
            raise ValueError("--split is a part of --data, which is not given")
        config = read_sound_config(args.config, args.cfg_options, ("test",))
        if config.get("test_cfg") is None:
            raise ValueError(f"{args.config} has no test_cfg, so there is nothing to test")
        from fineclip.engine import (  # torch: seconds
            build_runner,
            explaining_errors,
            load_config,
            set_test_precision,
        )
        from fineclip.engine.console import start_console  # the same
        from fineclip.evaluation.saving import keep_predictions  # the same

        config = load_config(args.config, args.cfg_options)
        if args.amp:
            set_test_precision(config, args.amp)
        config.load_from = str(weights)
        runner = build_runner(config, work_dir=args.work_dir, launcher=args.launcher, quiet=True)
        with explaining_errors(config):
            evaluator = runner.test_loop.evaluator
        if args.save_predictions:
            keep_predictions(evaluator, args.save_predictions)
        start_console(runner, training=False)
    except (ValueError, FileNotFoundError, NotADirectoryError) as error:
        return report_error(error)
    from fineclip.images import UnusableImageError  # NumPy and Pillow, which --help need not load

    try:
        metrics = runner.test()
    except UnusableImageError as error:
        return report_error(error)
    if args.out and runner.rank == 0:
        write_atomically(args.out, json.dumps(metrics, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
