#!/usr/bin/env python
"""Makes scenes, trains a tiny CLIP, continues it with and without FineCLIP, and compares them.

They are compared as classifiers of regions, and as the start of an open-vocabulary detector
and segmenter.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from pathlib import Path

from fineclip.experiments.downstream import Task, run_task, summarize_task, task_table
from fineclip.experiments.scenes import (
    STAGES,
    Settings,
    plot_curves,
    run_scenes,
    summarize,
    table,
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
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/quickstart"), metavar="D")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="S", help="default: 0")
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=(*STAGES, *TASKS),
        default=[*STAGES, *TASKS],
        metavar="STAGE",
        help=f"run only some of: {', '.join((*STAGES, *TASKS))}",
    )
    defaults = Settings()
    sizes = parser.add_argument_group("size of the experiment")
    sizes.add_argument("--images", type=int, default=defaults.images, metavar="N")
    sizes.add_argument("--val-images", type=int, default=defaults.val_images, metavar="N")
    sizes.add_argument("--pretrain-epochs", type=int, default=defaults.pretrain_epochs, metavar="N")
    sizes.add_argument("--epochs", type=int, default=defaults.epochs, metavar="N")
    sizes.add_argument("--detection-epochs", type=int, default=2, metavar="N")
    sizes.add_argument("--segmentation-steps", type=int, default=300, metavar="N")
    args = parser.parse_args(argv)
    for name in (
        *("images", "val_images", "pretrain_epochs", "epochs"),
        *("detection_epochs", "segmentation_steps"),
    ):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    # mmengine and open_clip announce at length what every tiny run does.
    logging.getLogger().setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="mmengine|torch")
    settings = Settings(
        images=args.images,
        val_images=args.val_images,
        pretrain_epochs=args.pretrain_epochs,
        epochs=args.epochs,
    )
    tasks = make_tasks(args)
    start = time.monotonic()
    by_seed: dict[int, dict] = {}
    by_task: dict[str, dict[int, dict]] = {task.name: {} for task in tasks}
    try:
        for seed in dict.fromkeys(args.seeds):
            by_seed[seed] = run_scenes(
                args.work_dir,
                seed=seed,
                settings=settings,
                stages=[stage for stage in args.stages if stage in STAGES],
                report=show,
            )
            for task in tasks:
                by_task[task.name][seed] = run_task(
                    task,
                    args.work_dir,
                    seed=seed,
                    settings=settings,
                    train=task.name in args.stages,
                    report=show,
                )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues from the last epoch", file=sys.stderr)
        return 130
    summary = summarize(by_seed)
    for task in tasks:
        summary[task.name] = summarize_task(by_task[task.name])
        for seed, results in by_task[task.name].items():
            summary["seeds"][str(seed)][task.name] = results
    write_atomically(args.work_dir / "summary.json", json.dumps(summary, indent=2) + "\n")
    curves = args.work_dir / "training_curves.png"
    plot_curves(args.work_dir, next(iter(by_seed)), curves)
    print(f"\n{table(by_seed)}\n")
    for task in tasks:
        if summary[task.name]:
            print(f"{task_table(task, by_task[task.name])}\n")
    print(f"{args.work_dir / 'summary.json'} and {curves} ({time.monotonic() - start:.0f} s)")
    return 0


def make_tasks(args: argparse.Namespace) -> list[Task]:
    """What is trained on top of the CLIPs."""
    detection, segmentation = CONFIGS / "detection", CONFIGS / "segmentation"
    return [
        Task(
            "detection",
            "detection.experiments.scenes:train_detector",
            ("novel_ap50", "base_ap50", "all_ap50"),
            {"epochs": args.detection_epochs},
            (detection / "scenes_fvit.py", *detection.glob("_base_/**/*.py")),
        ),
        Task(
            "segmentation",
            "segmentation.experiments.scenes:train_segmenter",
            ("miou", "macc", "novel_miou"),
            {"steps": args.segmentation_steps},
            (segmentation / "scenes_vit-ti-8.yaml",),
        ),
    ]


def show(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
