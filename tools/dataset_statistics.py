#!/usr/bin/env python
r"""Says what is in a region-text data set, and which categories of benchmarks its captions name.

python tools/dataset_statistics.py data/cc2.5m_shards --vocabulary pc59 ade847 --out statistics/

Reads shards, COCO boxes or captions, a list of images with captions, or region captions.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fineclip.command_line import (
    ToolParser,
    add_device,
    add_weights,
    positive,
    progress_bar,
    real_number,
    report_error,
    silence_libraries,
)
from fineclip.configuration.model_names import check_model_name
from fineclip.interrupts import run_command
from fineclip.weights import check_weights

if TYPE_CHECKING:
    from fineclip.models import DenseCLIP


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument(
        "data", type=Path, metavar="OUT_OR_JSON", help="folder of shards, or a JSON file"
    )
    parser.add_argument("--captions", type=Path, metavar="F", help="COCO captions beside boxes")
    parser.add_argument(
        "--region-captions", type=Path, metavar="F", help="captions of the boxes beside them"
    )
    parser.add_argument(
        "--image-root", type=Path, metavar="D", help="images of a JSON file, for --benchmark-images"
    )
    parser.add_argument(
        "--images",
        type=positive,
        metavar="N",
        help="look at so many images alone, evenly spread (default: all)",
    )
    parser.add_argument(
        "--vocabulary",
        nargs="+",
        default=[],
        metavar="V",
        help="benchmarks whose categories captions may name: built-in vocabularies or files",
    )
    parser.add_argument(
        "--min-captions",
        type=positive,
        default=10,
        metavar="N",
        help="captions that must name a category for it to be relevant; it is weakly relevant with "
        "fewer, or where a near word occurs",
    )
    parser.add_argument(
        "--model",
        metavar="M",
        help="open_clip model name of a CLIP that says which words are near",
    )
    add_weights(parser, "its weights: a tag, or a checkpoint file")
    parser.add_argument(
        "--near",
        type=real_number(-1, 1),
        default=0.9,
        metavar="C",
        help="cosine of a near word; CLIPs differ, so look at the words in statistics.json first",
    )
    add_device(parser)
    parser.add_argument(
        "--benchmark-images",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help="folders of images that should not be in the data set: near-duplicates are listed",
    )
    parser.add_argument(
        "--annotations",
        type=Path,
        metavar="F",
        help="COCO annotations of the same images: how many annotated boxes the data set's find",
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="where statistics.json and pictures go",
    )
    return parser.parse_args(argv)


def check_clip(args: argparse.Namespace) -> None:
    if (args.model is None) != (args.weights is None):
        raise ValueError("--model and --weights of a CLIP belong together; one of them is missing")
    if args.model is None:
        return
    if not args.vocabulary:
        raise ValueError("--model: near words are those of categories; add --vocabulary")
    check_model_name(args.model, "--model")
    check_weights(args.weights)


def load_clip(args: argparse.Namespace) -> DenseCLIP | None:
    if args.model is None:
        return None
    from fineclip.devices import usable_device  # torch takes seconds
    from fineclip.models import create_text_encoder  # the same

    return create_text_encoder(args.model, args.weights, usable_device(args.device))


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    silence_libraries()
    try:
        check_clip(args)
        from fineclip.annotation import dataset_report  # torch and matplotlib: not for --help

        found = dataset_report.describe_data_set(
            args.data,
            args.out,
            dataset_report.ReportSettings(
                args.vocabulary,
                args.benchmark_images,
                args.annotations,
                args.min_captions,
                args.near,
            ),
            bar=progress_bar,
            clip=load_clip(args),
            image_root=args.image_root,
            captions=args.captions,
            region_captions=args.region_captions,
            images=args.images,
        )
    except (ValueError, OSError, ImportError) as error:
        return report_error(error)
    print("\n".join([*dataset_report.report_lines(found), f"wrote {args.out}"]))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
