"""Makes a data set of synthetic scenes in the file formats of real data sets."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from fineclip.command_line import (
    ToolParser,
    add_scene_options,
    integer_argument,
    positive,
    progress_bar,
    report_error,
)
from fineclip.interrupts import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=(
            "Write synthetic scenes to OUT: train/ and val/ images, annotations/ (COCO instances, "
            "captions, region captions, panoptic, semantic, LVIS), vocabulary.json and data.yaml. "
            "If OUT already holds the same scenes, nothing is done."
        )
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    parser.add_argument(
        "--images", metavar="N", type=positive, default=3000, help="training images"
    )
    parser.add_argument(
        "--val-images",
        metavar="M",
        type=positive,
        help="validation images (default: N / 6, at least 1)",
    )
    parser.add_argument(
        "--seed", metavar="S", type=integer_argument(0), default=0, help="seed of the world"
    )
    parser.add_argument(
        "--image-size",
        "--size",
        metavar="PX",
        type=positive,
        default=128,
        help="side of the images in pixels",
    )
    add_scene_options(parser)
    parser.add_argument(
        "--workers",
        metavar="W",
        type=positive,
        default=min(4, os.cpu_count() or 1),
        help="processes",
    )
    parser.add_argument(
        "--own-shapes",
        action="store_true",
        help="a small data set of four shapes that the scenes do not show (crescent, heart, arrow, "
        "hourglass), which alone are labelled; as many validation images, no LVIS or panoptic "
        "files, neither --captioner nor --twins",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace other scenes in OUT")
    return parser.parse_args(argv)


def make_own(args: argparse.Namespace) -> int:
    from fineclip.scenes.own_shapes import make_own_shapes  # NumPy and Pillow: not for --help

    try:
        if args.scenes:
            given = ", ".join(f"--{name}" for name in args.scenes)
            raise ValueError(f"--own-shapes has neither captioner nor twins, so leave out {given}")
        with progress_bar("pictures", "image") as progress:
            statistics = make_own_shapes(
                args.out,
                images=args.images,
                val_images=args.val_images,
                seed=args.seed,
                size=args.image_size,
                overwrite=args.overwrite,
                progress=progress,
            )
    except (ValueError, OSError) as error:
        return report_error(error)
    for split, numbers in statistics.items():
        boxes = ", ".join(f"{count} {name}" for name, count in numbers["boxes"].items())
        print(f"{split}: {numbers['images']} images, boxes: {boxes}")
    print(f"described by {args.out / 'data.yaml'}")
    return 0


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from fineclip.scenes import make_scenes  # NumPy and Pillow, which --help need not load

    if args.own_shapes:
        return make_own(args)
    try:
        with progress_bar("scenes", "image") as progress:
            statistics = make_scenes(
                args.out,
                images=args.images,
                val_images=args.val_images,
                seed=args.seed,
                size=args.image_size,
                workers=args.workers,
                overwrite=args.overwrite,
                progress=progress,
                **args.scenes,
            )
    except (ValueError, OSError) as error:
        return report_error(error)
    for split, numbers in statistics.items():
        print(
            f"{split}: {numbers['images']} images, {numbers['instances']} objects, "
            f"{numbers['captions']} captions ({numbers['unique_captions']} different)"
        )
    print(f"scenes are in {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
