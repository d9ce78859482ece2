#!/usr/bin/env python
"""Trains a config on mmengine's Runner: pretraining (configs/fineclip) and detection."""

from __future__ import annotations

import argparse
import sys

from fineclip.command_line import report_error
from fineclip.engine import (
    OverridesAction,
    ResumeError,
    build_runner,
    load_config,
    prepare_training,
)
from fineclip.images import UnusableImageError
from fineclip.interrupts import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Several processes: torchrun --nproc-per-node N tools/train.py CONFIG --launcher "
        "pytorch. Exit code 2 and one line on standard error for bad usage or bad input.",
    )
    parser.add_argument("config", metavar="CONFIG", help="a Python config file")
    parser.add_argument(
        "--work-dir",
        metavar="D",
        help="where logs and checkpoints go (default: work_dirs/<name of the config>, "
        "with _<method> where it has methods)",
    )
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="CHECKPOINT",
        help="continue from the last checkpoint of the work dir, or from CHECKPOINT: weights, "
        "optimizer moments and progress are its own, all settings those given now",
    )
    earlier.add_argument(
        "--overwrite", action="store_true", help="replace the training that the work dir holds"
    )
    parser.add_argument(
        "--amp",
        nargs="?",
        const="bf16",
        choices=("bf16", "fp16"),
        help="mixed precision (plain --amp: bf16)",
    )
    parser.add_argument("--launcher", choices=("none", "pytorch"), default="none")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=OverridesAction,
        default={},
        metavar="K=V",
        help="overrides: top-level variables of the config (data_root=D model_name=M "
        "batch_size=N), from which the rest is recomputed, or any dotted key of the finished one",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        runner = build_runner(
            load_config(args.config, args.cfg_options),
            work_dir=args.work_dir,
            resume=args.resume,
            amp=args.amp,
            launcher=args.launcher,
            used="overwrite" if args.overwrite else "refuse",
        )
        prepare_training(runner)
    except (ValueError, OSError) as error:
        return report_error(error)
    try:
        runner.train()
    except (UnusableImageError, ResumeError, OSError) as error:
        return report_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
