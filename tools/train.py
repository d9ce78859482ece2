#!/usr/bin/env python
"""Trains a config on mmengine's Runner: pretraining (configs/fineclip) and detection."""

from __future__ import annotations

import argparse
import os
import sys

from fineclip.command_line import (
    ERRORS_EPILOG,
    ToolParser,
    add_cfg_options,
    add_data,
    add_launcher,
    add_log_to,
    check_launcher,
    report_error,
)
from fineclip.interrupts import run_command
from fineclip.weights import weights_file


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=__doc__,
        epilog="Several processes: torchrun --nproc-per-node N tools/train.py CONFIG --launcher "
        f"pytorch.\n{ERRORS_EPILOG}",
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
        metavar="W",
        help="continue from the last checkpoint of the work dir, or from W, a checkpoint or "
        "another work dir: weights, optimizer moments and progress are its own, all settings "
        "those given now (default: start anew)",
    )
    earlier.add_argument(
        "--overwrite", action="store_true", help="replace the training that the work dir holds"
    )
    parser.add_argument(
        "--amp",
        nargs="?",
        const="bf16",
        choices=("bf16", "fp16"),
        help="mixed precision, plain --amp: bf16 (default: float32)",
    )
    add_data(
        parser,
        "files, classes and splits are taken from it, and by configs/detection/own.py and "
        "configs/fineclip/own.py the schedule from the number of its images",
    )
    add_launcher(parser)
    add_log_to(parser, "scalars.json")
    add_cfg_options(
        parser,
        "overrides: top-level variables of the config (data_root=D model_name=M batch_size=N), "
        "from which the rest is recomputed, or any dotted key of the finished one",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from fineclip.configuration.backends import send_curves_to  # mmengine: not for --help
    from fineclip.configuration.mistakes import read_sound_config  # the same

    try:
        check_launcher(args.launcher)
        if isinstance(args.resume, str):
            args.resume = str(weights_file(args.resume))
        lines: tuple[str, ...] = ()
        if args.data is not None:
            from fineclip.command_line.described import described_run  # torch: not for others

            processes = int(os.environ["WORLD_SIZE"]) if args.launcher == "pytorch" else 1
            run = described_run(args.config, args.data, args.cfg_options, processes=processes)
            args.cfg_options, lines = run.options, run.lines
        sound = read_sound_config(args.config, args.cfg_options, ("train", "val"))
        if args.log_to is not None:
            send_curves_to(sound, args.log_to)  # once more below: here it is told at once
        from fineclip.engine import (  # torch: seconds
            ResumeError,
            build_runner,
            load_config,
            prepare_training,
        )
        from fineclip.engine.console import start_console  # the same

        config = load_config(args.config, args.cfg_options)
        if args.log_to is not None:
            send_curves_to(config, args.log_to)
        runner = build_runner(
            config,
            work_dir=args.work_dir,
            resume=args.resume,
            amp=args.amp,
            launcher=args.launcher,
            quiet=True,
            used="overwrite" if args.overwrite else "refuse",
        )
        prepare_training(runner)
        if lines and runner.rank == 0:
            print("\n".join(lines))
        start_console(runner)
    except (ValueError, OSError) as error:
        return report_error(error)
    from fineclip.images import UnusableImageError  # NumPy and Pillow, which --help need not load

    try:
        runner.train()
    except (UnusableImageError, ResumeError, OSError) as error:
        return report_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
