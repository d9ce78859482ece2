#!/usr/bin/env python
r"""Trains CAT-Seg on detectron2's trainer, or evaluates it.

python tools/train_segmentation.py --config-file configs/segmentation/coco-stuff_vit-b-16.yaml \
      --num-gpus 4 OUTPUT_DIR work_dirs/catseg
python tools/train_segmentation.py --config-file ... --eval-only MODEL.WEIGHTS model_final.pth
"""

from __future__ import annotations

import argparse
import sys
import warnings

from fineclip.interrupts import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Data sets lie below the folder DETECTRON2_DATASETS (default: datasets). Without a "
        "CUDA device everything\nruns on the CPU. Exit code 2 and one line on standard error for "
        "bad usage or bad input.",
    )
    parser.add_argument("--config-file", required=True, metavar="F", help="a yaml configuration")
    parser.add_argument(
        "--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS on DATASETS.TEST"
    )
    earlier = parser.add_mutually_exclusive_group()
    earlier.add_argument(
        "--resume",
        action="store_true",
        help="continue from the last checkpoint of OUTPUT_DIR if there is one: weights, optimizer "
        "moments and progress are its own, all settings those given now",
    )
    earlier.add_argument(
        "--overwrite", action="store_true", help="replace the training that OUTPUT_DIR holds"
    )
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="on this machine")
    parser.add_argument("--num-machines", type=int, default=1, metavar="N")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="I")
    parser.add_argument(
        "--dist-url",
        default="auto",
        metavar="URL",
        help="where processes meet, tcp://HOST:PORT (default: a free port of this machine)",
    )
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides of the config"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        from torch.multiprocessing import ProcessRaisedException

        from segmentation.engine import check_inputs, load_config  # detectron2: --help needs none
        from segmentation.engine.launch import run  # the same
    except ModuleNotFoundError as error:
        print(f"error: {error}; training needs detectron2", file=sys.stderr)
        return 2
    try:
        cfg = load_config(args.config_file, args.options)
        check_inputs(
            cfg,
            train=not args.eval_only,
            resume=args.resume,
            num_processes=args.num_gpus * args.num_machines,
        )
        run(
            cfg,
            eval_only=args.eval_only,
            resume=args.resume,
            overwrite=args.overwrite,
            num_gpus=args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
        )
    except (ValueError, OSError, ProcessRaisedException) as error:
        # Of what a worker raised, the last line is the error itself.
        print(f"error: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
