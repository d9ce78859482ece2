#!/usr/bin/env python
"""How time and memory grow with batch, boxes, image, classes, processes and memory budget.

A page of plots, the figures as JSON, and the power of each size that they grow with. Models are
small, weights and pictures random. Each point is kept in the out dir: an interrupted run continues.

  python tools/benchmark_scaling.py --curves batch budget
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from fineclip.command_line import ToolParser, add_device, positive, report_error
from fineclip.files import write_atomically
from fineclip.interrupts import run_command

STEP = "fineclip.experiments.pretraining_benchmark:measure_settings"
POINTS = "fineclip.experiments.scaling_points"
SCORES = "detection.experiments.cost_benchmark:score_cost"
AGGREGATION = "segmentation.experiments.cost_benchmark:aggregation_cost"
SMALL: dict[str, Any] = {
    "step": {"model": "ViT-Ti-8-scenes", "batch": 4, "boxes": 4, "image_size": 64, "steps": 3},
    "batch": (2, 4, 8, 16, 32, 64),
    "boxes": (1, 2, 4, 8, 16, 32),
    "image": (32, 64, 128, 256, 384),
    "classes": (150, 500, 2000, 10000),
    "rows": {"width": 128, "steps": 3},
    "grid": 8,
    "processes": (1, 2),
    "budget": (8, 16, 32, 64, 128, 256),
}
TINY: dict[str, Any] = {
    "step": {"model": "ViT-Ti-16", "batch": 2, "boxes": 2, "image_size": 32, "steps": 1},
    "batch": (1, 2),
    "boxes": (1, 2),
    "image": (16, 32),
    "classes": (5, 10),
    "rows": {"width": 8, "steps": 1},
    "grid": 2,
    "processes": (1, 2),
    "budget": (0.125, 1),
}
CURVES = {
    "batch": "images in a batch",
    "boxes": "boxes per image",
    "image": "side of images and crops, pixels",
    "classes": "classes",
    "processes": "processes, each with its batch",
    "budget": "memory budget, MiB",
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=__doc__,
        epilog="Exit code 1 where a point failed; the others are measured all the same.",
    )
    parser.add_argument(
        "--curves",
        nargs="+",
        choices=CURVES,
        default=list(CURVES),
        metavar="C",
        help=f"some of: {', '.join(CURVES)} (default: all)",
    )
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try the command")
    add_device(parser)
    parser.add_argument(
        "--threads", type=positive, default=1, metavar="N", help="CPU threads of each process"
    )
    parser.add_argument(
        "--out-dir",
        type=Path,
        default=Path("work_dirs/scaling"),
        metavar="DIR",
        help="scaling.json, scaling.png and scaling.svg, and a file per point",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # of the processes that measure
    try:
        from fineclip.devices import usable_device  # torch takes seconds
        from fineclip.experiments.scaling import (  # the same
            Curve,
            Line,
            exponent_table,
            measure_curves,
            plot_growth,
        )

        device = str(usable_device(args.device))
        lines = make_lines(TINY if args.tiny else SMALL, device)
        curves = [
            Curve(name, CURVES[name], [Line(*line) for line in lines[name]]) for name in args.curves
        ]
        folder = args.out_dir / "points"
        folder.mkdir(parents=True, exist_ok=True)
        result = measure_curves(
            curves,
            folder,
            facts={"threads": args.threads, "device": device},
            report=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except (ValueError, OSError) as error:
        return report_error(error)
    write_atomically(args.out_dir / "scaling.json", json.dumps(result, indent=2) + "\n")
    plot_growth(result, args.out_dir / "scaling.png", args.out_dir / "scaling.svg")
    print(exponent_table(result))
    return int('"error"' in json.dumps(result))


def make_lines(sizes: dict[str, Any], device: str) -> dict[str, list[tuple]]:
    """Name, function, what varies, values, other arguments and factor of each line of a curve."""
    step, on = {**sizes["step"], "mode": "plain", "device": device}, {"device": device}
    ranks = f"{POINTS}:processes_point"
    ranking, rows = f"{POINTS}:classification_point", sizes["rows"]
    maps = {**rows, **on, "grid": sizes["grid"], "network": "tiny"}
    budget = [round(mebibytes * 2**20) for mebibytes in sizes["budget"]]
    auto = {**step, "mode": "auto", "batch": 2 * step["batch"], "boxes": 2 * step["boxes"]}
    few = {**step, "batch": 2, "boxes": 2}
    gloo = {**step, "device": "cpu"}
    return {
        "batch": [("FineCLIP step", STEP, "batch", sizes["batch"], step)],
        "boxes": [("FineCLIP step", STEP, "boxes", sizes["boxes"], step)],
        "image": [("FineCLIP step", STEP, "image_size", sizes["image"], few)],
        "classes": [
            ("box classification", ranking, "classes", sizes["classes"], rows),
            ("F-ViT scores", SCORES, "classes", sizes["classes"], {**rows, **on}),
            ("CAT-Seg aggregation", AGGREGATION, "classes", sizes["classes"], maps),
        ],
        "processes": [
            ("all losses", ranks, "processes", sizes["processes"], gloo),
            ("own rows", ranks, "processes", sizes["processes"], {**gloo, "local_loss": True}),
        ],
        "budget": [("FineCLIP step", STEP, "memory_budget", budget, auto, 2**20)],
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
