#!/usr/bin/env python
"""Makes scenes, trains a tiny CLIP, continues it with and without FineCLIP, and compares them.

They are compared as classifiers of regions, and as the start of an open-vocabulary detector
and segmenter.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from fineclip.experiments.engine import interrupt_on_sigterm
from fineclip.experiments.quickstart import (
    STAGES,
    DownstreamTask,
    QuickstartSettings,
    Results,
    plot_curves,
    quickstart_tables,
    run_quickstart,
    summarize_quickstart,
)
from fineclip.files import write_atomically

CONFIGS = Path(__file__).parents[1] / "configs"
TASKS = ("detection", "segmentation")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Finished stages are kept: a second run prints its table at once, an interrupted "
        "one continues. Delete the work dir to start again.",
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("work_dirs/quickstart"),
        metavar="D",
        help="default: %(default)s",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="S", help="default: 0")
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=(*STAGES, *TASKS),
        default=[*STAGES, *TASKS],
        metavar="STAGE",
        help=f"run only some of: {', '.join((*STAGES, *TASKS))} (default: all)",
    )
    defaults = QuickstartSettings()
    sizes = {
        "images": defaults.images,
        "val_images": defaults.val_images,
        "pretrain_epochs": defaults.pretrain_epochs,
        "epochs": defaults.epochs,
        "detection_epochs": 2,
        "segmentation_steps": 300,
    }
    group = parser.add_argument_group("size of the experiment")
    for name, default in sizes.items():
        flag = "--" + name.replace("_", "-")
        group.add_argument(
            flag, type=int, default=default, metavar="N", help="default: %(default)s"
        )
    args = parser.parse_args(argv)
    for name in sizes:
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    interrupt_on_sigterm()
    settings = QuickstartSettings(
        images=args.images,
        val_images=args.val_images,
        pretrain_epochs=args.pretrain_epochs,
        epochs=args.epochs,
    )
    start = time.monotonic()
    by_seed: dict[int, Results] = {}
    try:
        for seed in dict.fromkeys(args.seeds):
            by_seed[seed] = run_quickstart(
                args.work_dir,
                seed=seed,
                settings=settings,
                tasks=make_tasks(args),
                stages=args.stages,
                report=lambda line: print(line, flush=True),
            )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues from the last epoch", file=sys.stderr)
        return 130
    summary, curves = args.work_dir / "summary.json", args.work_dir / "training_curves.png"
    write_atomically(summary, json.dumps(summarize_quickstart(by_seed), indent=2) + "\n")
    plot_curves(args.work_dir, next(iter(by_seed)), curves)
    print("", *(f"{table}\n" for table in quickstart_tables(by_seed)), sep="\n")
    print(f"{summary} and {curves} ({time.monotonic() - start:.0f} s)")
    return 0


def make_tasks(args: argparse.Namespace) -> list[DownstreamTask]:
    """What is trained on top of the CLIPs."""
    detection, segmentation = CONFIGS / "detection", CONFIGS / "segmentation"
    return [
        DownstreamTask(
            "detection",
            "detection.experiments.scenes:train_detector",
            ("novel_ap50", "base_ap50", "all_ap50"),
            {"epochs": args.detection_epochs},
            (detection / "scenes_fvit.py", *detection.glob("_base_/**/*.py")),
        ),
        DownstreamTask(
            "segmentation",
            "segmentation.experiments.scenes:train_segmenter",
            ("miou", "macc", "novel_miou"),
            {"steps": args.segmentation_steps},
            (segmentation / "scenes_vit-ti-8.yaml",),
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
