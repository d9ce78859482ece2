#!/usr/bin/env python
r"""Trains CAT-Seg on detectron2's trainer, or evaluates it.

python tools/train_segmentation.py --config configs/segmentation/coco-stuff_vit-b-16.yaml \
      --num-gpus 4 --work-dir work_dirs/catseg
python tools/train_segmentation.py --config ... --eval-only --weights work_dirs/catseg

Data sets lie below the folder DETECTRON2_DATASETS (default: datasets). Without a CUDA device
everything runs on the CPU.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

from fineclip.command_line import (
    ToolParser,
    add_config,
    add_data,
    add_key_values,
    add_log_to,
    add_weights,
    check_key_values,
    integer_argument,
    positive,
    report_error,
)
from fineclip.interrupts import run_command
from fineclip.weights import weights_file


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    add_config(parser, "a yaml configuration", required=True)
    parser.add_argument(
        "--work-dir",
        metavar="D",
        help="where logs and checkpoints go (default: OUTPUT_DIR of the config)",
    )
    add_weights(
        parser,
        "a trained segmenter, or the work dir of its training, to evaluate or to start from "
        "(default: MODEL.WEIGHTS of the config)",
    )
    add_data(
        parser,
        "its label maps are trained on and evaluated, with its classes; of "
        "configs/segmentation/own.yaml the schedule follows from the number of its images",
    )
    parser.add_argument(
        "--register",
        action="append",
        default=[],
        metavar="FILE.py",
        help="a program that registers data sets with detectron2, run in every process; several "
        "--register run in turn (default: none)",
    )
    parser.add_argument(
        "--eval-only", action="store_true", help="evaluate the weights on DATASETS.TEST"
    )
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument(
        "--resume",
        action="store_true",
        help="continue from the last checkpoint of the work dir if there is one: weights, "
        "optimizer moments and progress are its own, all settings those given now",
    )
    earlier.add_argument(
        "--overwrite", action="store_true", help="replace the training that the work dir holds"
    )
    parser.add_argument(
        "--num-gpus", type=positive, default=1, metavar="N", help="processes on this machine"
    )
    parser.add_argument("--num-machines", type=positive, default=1, metavar="N", help="machines")
    parser.add_argument(
        "--machine-rank", type=integer_argument(0), default=0, metavar="I", help="which one this is"
    )
    parser.add_argument(
        "--dist-url",
        default="auto",
        metavar="URL",
        help="where processes meet, tcp://HOST:PORT (default: auto, a free port of this machine)",
    )
    add_log_to(parser, "metrics.json")
    add_key_values(parser, "overrides of the config")
    parser.add_argument(
        "options",
        nargs=argparse.REMAINDER,
        metavar="KEY VALUE",
        help="overrides, too, as detectron2's own tools take them; at the end",
    )
    args = parser.parse_args(argv)
    if len(args.options) % 2:
        parser.error(f"KEY VALUE come in pairs, the last of {args.options} has no value")
    if args.work_dir is not None:
        args.cfg_options += ["OUTPUT_DIR", args.work_dir]
    if args.log_to is not None:
        args.cfg_options += ["LOG_TO", str(args.log_to)]
    args.options = [*args.cfg_options, *args.options]
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        if not Path(args.config).is_file():
            raise FileNotFoundError(f"configuration {args.config} does not exist")
        check_key_values(args.options)
        if args.log_to:
            from fineclip.configuration.backends import require_backends  # mmengine: not for --help

            require_backends(args.log_to)
        if args.weights is not None:
            args.options += ["MODEL.WEIGHTS", str(weights_file(args.weights))]
    except (ValueError, OSError) as error:
        return report_error(error)
    if find_spec("detectron2") is None:
        return report_error("training needs detectron2, which is not installed")
    from torch.multiprocessing import ProcessRaisedException

    from segmentation.data.described import run_registrations  # detectron2: --help needs none
    from segmentation.engine import check_inputs, load_config  # the same
    from segmentation.engine.described import described_config  # the same
    from segmentation.engine.launch import run  # the same

    processes = args.num_gpus * args.num_machines
    lines: tuple[str, ...] = ()
    try:
        run_registrations(args.register)
        if args.data is None:
            cfg = load_config(args.config, args.options)
        else:
            cfg, lines = described_config(
                args.config,
                args.data,
                args.options,
                train=not args.eval_only,
                processes=processes,
            )
        check_inputs(cfg, train=not args.eval_only, resume=args.resume, num_processes=processes)
        print("\n".join(lines), end="\n" * bool(lines))
        run(
            cfg,
            eval_only=args.eval_only,
            resume=args.resume,
            overwrite=args.overwrite,
            num_gpus=args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            register=args.register,
        )
    except (ValueError, OSError, ProcessRaisedException) as error:
        # Of what a worker raised, the last line is the error itself.
        return report_error(str(error).strip().splitlines()[-1])
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
