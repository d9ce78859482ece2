#!/usr/bin/env python
"""Compares checkpoints by their explanations: pointing, insertion and deletion on boxes."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fineclip.command_line import (
    ToolParser,
    add_device,
    add_weights,
    check_out_file,
    positive,
    report_error,
)
from fineclip.configuration.model_names import check_model_name
from fineclip.files import require_folder, write_atomically
from fineclip.interrupts import run_command
from fineclip.weights import check_weights


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument(
        "--model", required=True, metavar="M", help="open_clip model name; no ResNet"
    )
    add_weights(
        parser,
        "checkpoints to compare: files in any known format, work dirs, tags of open_clip's",
        nargs="+",
        required=True,
    )
    parser.add_argument(
        "--data-root",
        required=True,
        type=Path,
        metavar="D",
        help="folder with SPLIT/ (images) and annotations/ with panoptic or instances JSON",
    )
    parser.add_argument(
        "--split",
        metavar="S",
        help="its part to evaluate on (default: val2017 if there is such a folder, else val)",
    )
    parser.add_argument(
        "--images", type=positive, metavar="N", help="the first N images alone (default: all)"
    )
    parser.add_argument(
        "--image-size",
        type=positive,
        metavar="N",
        help="side of the network input in pixels (default: the model's own)",
    )
    parser.add_argument(
        "--templates",
        default="vild",
        metavar="T",
        help="prompts: a name as in evaluate_clip.py, or a string with {} for the category",
    )
    parser.add_argument(
        "--against-others",
        action="store_true",
        help="explain the probability of the category among all, not its similarity alone",
    )
    parser.add_argument(
        "--steps", type=positive, default=10, metavar="N", help="of insertion and deletion"
    )
    parser.add_argument("--batch-size", type=positive, default=16, metavar="N", help="images")
    add_device(parser)
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the results here, too")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        check_out_file(args.out)
        check_model_name(args.model, "--model")
        for weights in args.weights:
            check_weights(weights)
        require_folder(args.data_root, "--data-root")
        from fineclip.experiments.explanations import evaluate_explanations  # torch takes seconds

        rows = []
        for weights in args.weights:
            found = evaluate_explanations(
                args.model,
                weights,
                args.data_root,
                split=args.split,
                images=args.images,
                image_size=args.image_size,
                templates=args.templates,
                against=args.against_others,
                steps=args.steps,
                batch_size=args.batch_size,
                device=args.device,
            )
            rows.append({"weights": weights, "metrics": found})
            values = "  ".join(f"{name} {round(value, 1)}" for name, value in found.items())
            print(f"{weights}: {values}", flush=True)
        if args.out:
            report = {
                "model": args.model,
                "data_root": str(args.data_root),
                "against_others": args.against_others,
                "steps": args.steps,
                "rows": rows,
            }
            write_atomically(args.out, json.dumps(report, indent=2) + "\n")
    except (ValueError, OSError) as error:
        return report_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
