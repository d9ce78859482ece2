#!/usr/bin/env python
"""Makes the OV-COCO annotation files (48 base, 17 novel classes) from COCO 2017's instances.

Training keeps base boxes and the images that have one; validation keeps the boxes of all 65.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from detection.datasets.preparation import OV_COCO_FILES, prepare_ov_coco


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit code 2 and one line on standard error for bad usage or bad input.",
    )
    sources, targets = zip(*OV_COCO_FILES.values(), strict=True)
    parser.add_argument(
        "annotations_dir",
        metavar="ANNOTATIONS_DIR",
        type=Path,
        help=f"folder with {' and '.join(sources)}",
    )
    parser.add_argument(
        "out", metavar="OUT", type=Path, help=f"folder to write {' and '.join(targets)} to"
    )
    parser.add_argument(
        "--splits",
        nargs="+",
        choices=tuple(OV_COCO_FILES),
        default=tuple(OV_COCO_FILES),
        help="default: both",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        prepare_ov_coco(args.annotations_dir, args.out, args.splits, report=show)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def show(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
