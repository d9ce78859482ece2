#!/usr/bin/env python
r"""The paper's cost table on one GPU in under ten minutes: seconds, memory, share of its peak.

FineCLIP and the methods it is compared with (EVA02-B/16, 32 images of 224 px, 20 boxes each,
bfloat16), F-ViT and CAT-Seg at inference and in training. Weights and pictures are random.

  bash tools/benchmark_gpu.sh --out gpu.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from fineclip.command_line import ToolParser, add_device, check_out_file, real_number, report_error
from fineclip.files import write_atomically
from fineclip.interrupts import run_command

CONFIGS = Path(__file__).parents[1] / "configs" / "detection"
MATRIX_COST = "fineclip.experiments.gpu_benchmark:matrix_cost"
ATTENTION = "fineclip.experiments.attention_kernels:attention_kernels"
PRETRAINING = "fineclip.experiments.pretraining_benchmark:step_cost"
DETECTION = "detection.experiments.cost_benchmark:detector_cost"
SEGMENTATION = "segmentation.experiments.cost_benchmark:segmenter_cost"
# Images of a training are those of one card in the published recipes.
PAPER: dict[str, Any] = {
    "matrix_seconds": 2.0,
    "step": {"model": "EVA02-B-16", "batch": 32, "boxes": 20, "image_size": 224, "steps": 5},
    "detector": {"config": str(CONFIGS / "ov-coco_eva02-b-16.py"), "image_size": 640},
    "training": {"batch": 8},
    "segmenter": {"model": "ViT-B/16"},
    "picture": {"image_size": (512, 683)},
    "crop": {"image_size": (384, 384)},
    "attention": [("EVA02-B-16", 224), ("EVA02-B-16", 640), ("ViT-B-16", 384)],
    "memory_budget": 3.0,
}
TINY: dict[str, Any] = {
    "matrix_seconds": 0.1,
    "step": {"model": "EVA02-Ti-16", "batch": 2, "boxes": 2, "image_size": 32, "steps": 1},
    "detector": {"config": str(CONFIGS / "scenes_fvit.py"), "image_size": 64, "steps": 1},
    "training": {"batch": 2},
    "segmenter": {
        "model": "ViT-Ti-16",
        "grid": 4,
        "train_vocabulary": "voc20",
        "vocabulary": "voc20",
        "steps": 1,
        "network": "tiny",
    },
    "picture": {"image_size": (64, 64)},
    "crop": {"image_size": (64, 64)},
    "attention": [("EVA02-Ti-16", 64), ("ViT-Ti-16", 64)],
    "memory_budget": 0.001,
}
METHODS = {
    "CLIP": {"method": "clip", "mode": "plain"},
    "RegionCLIP": {"method": "regionclip", "mode": "plain"},
    "CLIPSelf": {"method": "clipself", "mode": "plain"},
    "FineCLIP plain": {"mode": "plain"},
    "FineCLIP auto": {"mode": "auto"},
    "FineCLIP compiled": {"mode": "compiled"},
}
DOWNSTREAM = ("F-ViT inference", "F-ViT training", "CAT-Seg inference", "CAT-Seg training")
STAGES = ("attention", *METHODS, *DOWNSTREAM)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=__doc__,
        epilog="Exit code 1 where a stage failed, such as for lack of memory; the others are "
        "measured all the same.",
    )
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=STAGES,
        default=STAGES,
        metavar="S",
        help=f"some of: {', '.join(STAGES)} (default: all)",
    )
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try the command")
    add_device(parser)
    parser.add_argument(
        "--amp",
        choices=("bf16", "fp16", "none"),
        default="bf16",
        help="mixed precision",
    )
    parser.add_argument(
        "--memory-budget",
        type=real_number(0, above=True),
        metavar="GIB",
        help=f"activations that FineCLIP auto keeps (default: {PAPER['memory_budget']:g}, which "
        "leaves room in 6 GB for weights, optimizer and batch)",
    )
    parser.add_argument(
        "--stage-seconds",
        type=real_number(1),
        default=100,
        metavar="S",
        help="what a stage may take",
    )
    parser.add_argument(
        "--total-seconds",
        type=real_number(1),
        default=570,
        metavar="S",
        help="what all of them may take",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("benchmark_gpu.json"),
        metavar="F.json",
        help="figures, written after each stage",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        check_out_file(args.out)
        from fineclip.devices import usable_device  # torch takes seconds
        from fineclip.experiments.gpu_benchmark import (  # the same
            MATRIX,
            CostStage,
            cost_table,
            run_stages,
        )

        device = usable_device(args.device)
        if device.type == "cpu" and args.device is None:
            raise ValueError("this machine has no GPU; --device cpu --tiny tries the command")
    except (ValueError, OSError) as error:
        return report_error(error)
    amp = None if args.amp == "none" else args.amp
    shared = {"device": str(device), "amp": amp}
    sizes = TINY if args.tiny else PAPER
    stages = [CostStage(MATRIX, MATRIX_COST, {**shared, "seconds": sizes["matrix_seconds"]})]
    for name, (function, own) in make_stages(
        sizes, args.memory_budget or sizes["memory_budget"]
    ).items():
        if name in args.stages:
            stages.append(CostStage(name, function, {**own, **shared}))

    def report(result: dict[str, Any]) -> None:
        write_atomically(args.out, json.dumps({**shared, **result}, indent=2) + "\n")
        stage = result["stages"][-1]
        print(f"{stage['name']}: {stage.get('error', 'done')}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as cache:
        # A stage that is ended while it compiles leaves half a library, which would be loaded.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        result = run_stages(
            stages,
            stage_seconds=args.stage_seconds,
            total_seconds=args.total_seconds,
            report=report,
        )
    print(cost_table(result))
    return 1 if any("error" in stage for stage in result["stages"]) else 0


def make_stages(sizes: dict[str, Any], memory_budget: float) -> dict[str, tuple[str, dict]]:
    """Function and arguments of each stage."""
    step = {**sizes["step"], "memory_budget": memory_budget * 2**30}
    detector, segmenter = sizes["detector"], {**sizes["segmenter"], "batch": 1}
    return {
        "attention": (ATTENTION, {"cases": sizes["attention"]}),
        **{name: (PRETRAINING, {**step, **method}) for name, method in METHODS.items()},
        "F-ViT inference": (DETECTION, {**detector, "training": False, "batch": 1}),
        "F-ViT training": (DETECTION, {**detector, "training": True, **sizes["training"]}),
        "CAT-Seg inference": (SEGMENTATION, {**segmenter, "training": False, **sizes["picture"]}),
        "CAT-Seg training": (SEGMENTATION, {**segmenter, "training": True, **sizes["crop"]}),
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
