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
from typing import Literal

from fineclip.command_line import (
    ToolParser,
    add_experiment,
    add_scene_options,
    positive,
    report_error,
)
from fineclip.experiments.quickstart import (
    STAGES,
    DownstreamTask,
    QuickstartSettings,
    Results,
    plot_curves,
    quickstart_tables,
    run_quickstart,
    stage_seconds,
    summarize_quickstart,
)
from fineclip.files import write_atomically
from fineclip.interrupts import run_command

CONFIGS = Path(__file__).parents[1] / "configs"
TASKS = ("detection", "segmentation")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=__doc__,
        epilog="Finished stages are kept: a second run prints its table at once, an interrupted "
        "one continues. Delete the work dir to start again.",
    )
    add_experiment(parser, Path("work_dirs/quickstart"))
    add_scene_options(parser)
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=(*STAGES, *TASKS),
        default=[*STAGES, *TASKS],
        metavar="STAGE",
        help=f"run only some of: {', '.join((*STAGES, *TASKS))} (default: all)",
    )
    parser.add_argument(
        "--amp",
        choices=("auto", "bf16", "none"),
        default="auto",
        help="precision of all trainings; auto: the faster of float32 and bf16, measured at the "
        "first run and kept in the work dir (default: %(default)s)",
    )
    defaults = QuickstartSettings()
    sizes = {
        "images": (defaults.images, "training scenes"),
        "val_images": (defaults.val_images, "validation scenes"),
        "pretrain_epochs": (defaults.pretrain_epochs, "of the first CLIP"),
        "epochs": (defaults.epochs, "of its continuations"),
        "detection_epochs": (2, "of the detectors"),
        "segmentation_steps": (300, "of the segmenters"),
    }
    group = parser.add_argument_group("size of the experiment")
    for name, (default, text) in sizes.items():
        flag = "--" + name.replace("_", "-")
        group.add_argument(flag, type=positive, default=default, metavar="N", help=text)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    start = time.monotonic()
    tasks = make_tasks(args)
    by_seed: dict[int, Results] = {}
    try:
        settings = QuickstartSettings(
            images=args.images,
            val_images=args.val_images,
            pretrain_epochs=args.pretrain_epochs,
            epochs=args.epochs,
            amp=choose_precision(args),
            scenes=args.scenes,
        )
        for seed in dict.fromkeys(args.seeds):
            by_seed[seed] = run_quickstart(
                args.work_dir,
                seed=seed,
                settings=settings,
                tasks=tasks,
                stages=args.stages,
                report=lambda line: print(line, flush=True),
            )
    except (ValueError, OSError) as error:
        return report_error(error)
    except KeyboardInterrupt as stop:
        print("\ninterrupted; the same command continues from the last epoch", file=sys.stderr)
        return getattr(stop, "code", 130)
    summary, curves = args.work_dir / "summary.json", args.work_dir / "training_curves.png"
    seconds = {seed: stage_seconds(args.work_dir, seed, settings, tasks) for seed in by_seed}
    content = summarize_quickstart(by_seed, seconds)
    content["seconds"]["command"] = round(time.monotonic() - start, 1)
    write_atomically(summary, json.dumps(content, indent=2) + "\n")
    plot_curves(args.work_dir, next(iter(by_seed)), curves)
    print("", *(f"{table}\n" for table in quickstart_tables(by_seed)), sep="\n")
    trained = any(rows for tables in by_seed.values() for rows in tables.values())
    page = f" and {report_on(args.work_dir)}" if trained else ""
    print(f"{summary}, {curves}{page} ({time.monotonic() - start:.0f} s)")
    return 0


def choose_precision(args: argparse.Namespace) -> Literal["bf16"] | None:
    if args.amp != "auto":
        return "bf16" if args.amp == "bf16" else None
    from fineclip.experiments.precision import faster_precision  # torch: seconds

    amp = faster_precision(args.work_dir / "precision.json")
    print(f"precision: {amp or 'float32'}, the faster one here (--amp)", flush=True)
    return amp


def report_on(work_dir: Path) -> Path:
    from fineclip.reporting import write_report  # matplotlib and mmengine: not for --help

    return write_report([work_dir], work_dir / "report.html")


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
    sys.exit(run_command(main))
