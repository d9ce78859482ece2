"""Measures data loading: images per second and core, against Pillow crop by crop."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fineclip.command_line import (
    ToolParser,
    check_out_file,
    positive,
    progress_bar,
    report_error,
)
from fineclip.files import require_file, require_folder, write_atomically
from fineclip.interrupts import run_command

YARDSTICKS = Path(__file__).parent / "yardsticks"  # slow twins, no part of the packages


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=(
            "Make training batches of real images in three ways, in one thread: decoding with "
            "Pillow and cropping, resizing and normalising every box with torchvision's Pillow "
            "transforms (reference), and this package's data set with either backend."
        )
    )
    parser.add_argument(
        "--image-root", required=True, type=Path, metavar="D", help="folder of the images"
    )
    parser.add_argument(
        "--annotations", required=True, type=Path, metavar="JSON", help="COCO instances"
    )
    parser.add_argument("--captions", type=Path, metavar="JSON", help="COCO captions")
    parser.add_argument("--boxes", type=positive, default=10, metavar="K", help="boxes per image")
    parser.add_argument(
        "--image-size",
        "--size",
        type=positive,
        default=224,
        metavar="PX",
        help="side of image and crops",
    )
    parser.add_argument(
        "--interpolation", choices=("bilinear", "bicubic"), default="bilinear", help="of pixels"
    )
    parser.add_argument(
        "--images", type=positive, metavar="N", help="use so many images (default: all)"
    )
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="passes per path")
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the result here, too")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        check_out_file(args.out)
        require_folder(args.image_root, "--image-root")
        require_file(args.annotations, "--annotations")
        from fineclip.experiments.loading_benchmark import (  # torch takes seconds
            format_loading,
            measure_loading,
        )

        with progress_bar("loading", "pass") as show:
            result = measure_loading(
                args.image_root,
                args.annotations,
                yardstick=YARDSTICKS / "pillow_loading.py",
                boxes=args.boxes,
                captions=args.captions,
                size=args.image_size,
                interpolation=args.interpolation,
                max_images=args.images,
                rounds=args.rounds,
                progress=show,
            )
        if args.out is not None:
            write_atomically(args.out, json.dumps(result, indent=2) + "\n")
    except (ValueError, OSError) as error:
        return report_error(error)
    print(format_loading(result))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
