"""Packs images, captions, boxes and region captions into WebDataset shards with an index."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fineclip.command_line import ToolParser, positive, progress_bar, report_error
from fineclip.files import require_file, require_folder
from fineclip.interrupts import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=(
            "Write OUT/000000.tar, OUT/000001.tar, ... in WebDataset's format (image file and "
            "JSON per sample) and OUT/index.json, by which training reads them in any order. "
            "Image files are copied as they are."
        )
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    parser.add_argument(
        "--image-root", required=True, type=Path, metavar="D", help="folder of the images"
    )
    parser.add_argument(
        "--annotations",
        required=True,
        type=Path,
        metavar="JSON",
        help="COCO instances or proposals: images and boxes",
    )
    parser.add_argument("--captions", type=Path, metavar="JSON", help="COCO captions")
    parser.add_argument(
        "--region-captions",
        type=Path,
        metavar="JSON",
        help="captions of the boxes, by annotation id or by NAME_x_y_w_h.jpg",
    )
    parser.add_argument(
        "--samples-per-shard", type=positive, default=5000, metavar="N", help="images of a file"
    )
    parser.add_argument(
        "--skip-missing", action="store_true", help="leave out images whose file is missing"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace shards in OUT")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        require_folder(args.image_root, "--image-root")
        for option in ("annotations", "captions", "region_captions"):
            if (file := getattr(args, option)) is not None:
                require_file(file, f"--{option.replace('_', '-')}")
        from fineclip.datasets.shard_writer import make_shards  # torch takes seconds

        with progress_bar("shards", "image") as progress:
            counts = make_shards(
                args.out,
                image_root=args.image_root,
                annotations=args.annotations,
                captions=args.captions,
                region_captions=args.region_captions,
                samples_per_shard=args.samples_per_shard,
                skip_missing=args.skip_missing,
                overwrite=args.overwrite,
                progress=progress,
            )
    except (ValueError, OSError) as error:
        return report_error(error)
    if counts["missing"]:
        print(f"warning: {counts['missing']} images were missing", file=sys.stderr)
    print(
        f"{counts['images']} images in {counts['shards']} shards, "
        f"{counts['bytes'] / 1e6:.1f} MB: {args.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
