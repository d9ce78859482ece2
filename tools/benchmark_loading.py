"""Measures data loading: images per second and core, against Pillow crop by crop."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from fineclip.experiments.loading_benchmark import format_loading, measure_loading
from fineclip.files import write_atomically

YARDSTICKS = Path(__file__).parent / "yardsticks"  # slow twins, no part of the packages


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(
            "Make training batches of real images in three ways, in one thread: decoding with "
            "Pillow and cropping, resizing and normalising every box with torchvision's Pillow "
            "transforms (reference), and this package's data set with either backend."
        )
    )
    parser.add_argument("--image-root", required=True, type=Path, help="folder of the images")
    parser.add_argument(
        "--annotations", required=True, type=Path, metavar="JSON", help="COCO instances"
    )
    parser.add_argument("--captions", type=Path, metavar="JSON", help="COCO captions")
    parser.add_argument("--boxes", type=int, default=10, metavar="K", help="boxes per image (10)")
    parser.add_argument("--size", type=int, default=224, metavar="PX", help="image and crops (224)")
    parser.add_argument(
        "--interpolation", choices=("bilinear", "bicubic"), default="bilinear", help="(bilinear)"
    )
    parser.add_argument("--images", type=int, metavar="N", help="use N images (default: all)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="passes per path (5)")
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the result here")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    bar = tqdm(desc="loading", unit="pass", mininterval=1, leave=False)

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    try:
        with bar:
            result = measure_loading(
                args.image_root,
                args.annotations,
                yardstick=YARDSTICKS / "pillow_loading.py",
                boxes=args.boxes,
                captions=args.captions,
                size=args.size,
                interpolation=args.interpolation,
                max_images=args.images,
                rounds=args.rounds,
                progress=show,
            )
        if args.out is not None:
            write_atomically(args.out, json.dumps(result, indent=2) + "\n")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(format_loading(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
