#!/usr/bin/env python
r"""Measures what exemplars do: AP50 of classes by name, by crops of them, and by both.

python tools/evaluate_exemplars.py --weights work_dirs/scenes_fvit --data own/data.yaml \
      --among scenes_things

Crops are drawn from the training images of the data, detections are those in its validation
images. Several weights, each with its data, are seeds: mean and standard deviation.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from fineclip.command_line import (
    ToolParser,
    add_device,
    add_weights,
    check_out_file,
    positive,
    progress_bar,
    real_number,
    report_error,
    silence_libraries,
)
from fineclip.files import write_atomically
from fineclip.interrupts import run_command
from fineclip.text.vocabulary import load_vocabulary
from fineclip.weights import check_weights


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    add_weights(
        parser, "trained F-ViTs: weights, or work dirs of their trainings", nargs="+", required=True
    )
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="FILE",
        help="data.yaml of each, or one for all; classes that it calls novel are given by crops "
        "(default: all classes)",
    )
    parser.add_argument(
        "--among", metavar="V", help="a vocabulary whose words are looked for, too (default: none)"
    )
    parser.add_argument("--shots", type=positive, default=5, metavar="N", help="crops of a class")
    parser.add_argument(
        "--exemplar-weights",
        type=real_number(0, 1),
        nargs="+",
        default=[0, 0.25, 0.5, 0.75, 1],
        metavar="W",
        help="shares of the crops beside the names; 0: names alone, 1: crops alone",
    )
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the tables here, too")
    add_device(parser)
    return parser.parse_args(argv)


def evaluate_one(args: argparse.Namespace, seed: int, weights: str, data: str) -> dict:
    from detection.experiments import exemplars  # mmdet takes 10 s
    from detection.inference import load_detector  # the same
    from fineclip.datasets.description import read_description  # NumPy: not for --help
    from fineclip.devices import usable_device  # torch takes seconds

    description = read_description(data)
    vocabulary = description.vocabulary
    chosen = vocabulary.indices("novel") or range(len(vocabulary))
    names = tuple(vocabulary.names[index] for index in chosen)
    among = args.among and load_vocabulary(args.among)
    detector = load_detector(weights, None, device=usable_device(args.device))
    with tempfile.TemporaryDirectory() as folder, progress_bar("images", "image") as progress:
        crops = exemplars.draw_crops(description, names, args.shots, seed, Path(folder))
        shares = tuple(args.exemplar_weights)
        return exemplars.compare_exemplars(detector, description, crops, among, shares, progress)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    silence_libraries()
    try:
        check_out_file(args.out)
        for weights in args.weights:
            check_weights(weights)
        data = args.data * len(args.weights) if len(args.data) == 1 else args.data
        if len(data) != len(args.weights):
            raise ValueError(f"--data: one, or as many as --weights ({len(args.weights)})")
        pairs = zip(args.weights, data, strict=True)
        tables = [evaluate_one(args, seed, *pair) for seed, pair in enumerate(pairs)]
        from detection.experiments.exemplars import format_exemplar_table  # mmdet takes 10 s

        print(format_exemplar_table(tables))
        if args.out:
            write_atomically(args.out, json.dumps(tables, indent=1) + "\n")
    except (ValueError, OSError) as error:
        return report_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
