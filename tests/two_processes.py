#!/usr/bin/env python
"""Trains on one process and on two gloo processes, and compares losses and weights.

python tests/two_processes.py --json two_processes.json

Pretraining, detection and segmentation take a few steps on tiny scenes, through the configs and
trainers that the commands use, with as many images in a step on one process as on two together.
loss_difference is the largest over steps and logged losses, relative to the loss on one process;
weight_difference the largest over trained tensors, root mean square, relative to how far training
moved the tensor (or to a thousandth of the farthest moved, if that is more). Plain SGD stands in
for AdamW, which turns rounding noise of gradients that cancel into whole steps, and the detector
keeps its batch statistics (norm_eval), as synchronised batch norm needs GPUs. Exit code 1 where a
difference exceeds the tolerance.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

sys.path.pop(0)  # this folder, whose subfolders have the names of our packages
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent / "support"))

TOLERANCES = {"loss": 1e-5, "weight": 1e-3}
TRAININGS = ("pretraining", "detection", "segmentation")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the differences here")
    for name, default in TOLERANCES.items():
        parser.add_argument(
            f"--{name}-tolerance",
            type=float,
            default=default,
            metavar="X",
            help=f"largest {name}_difference (%(default)s)",
        )
    parser.add_argument("--trainings", nargs="+", choices=TRAININGS, default=TRAININGS)
    args = parser.parse_args(argv)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is imported: gloo, on CPUs
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from two_process_trainings import differences

    from fineclip.files import write_atomically

    with tempfile.TemporaryDirectory() as folder:
        report = differences(Path(folder), list(args.trainings))
    if args.json:
        write_atomically(args.json, json.dumps(report, indent=1) + "\n")
    for training, found in report.items():
        print(f"{training:12}  " + "  ".join(f"{name} {found[name]:.1e}" for name in found))
    equal = all(
        found["loss_difference"] <= args.loss_tolerance
        and found["weight_difference"] <= args.weight_tolerance
        for found in report.values()
    )
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
