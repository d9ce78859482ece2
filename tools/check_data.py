"""Checks annotation files and images as training and evaluation read them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fineclip.command_line import ToolParser, add_data, check_out_file, progress_bar, report_error
from fineclip.files import require_file, require_folder, write_atomically
from fineclip.interrupts import run_command

if TYPE_CHECKING:
    from fineclip.datasets.checking import CheckedData


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=(
            "Say what is wrong with the files of a data set: what is mended when they are read, "
            "what is left out, what is refused. Exit code 0: clean, or mended aloud; 2: refused."
        ),
    )
    what = parser.add_mutually_exclusive_group(required=True)
    add_data(what, "all files of all splits are checked")
    what.add_argument(
        "--annotations",
        type=Path,
        metavar="F",
        help="boxes: COCO instances, LVIS or proposals",
    )
    parser.add_argument("--image-root", type=Path, metavar="D", help="folder of the images")
    parser.add_argument("--captions", type=Path, metavar="F", help="COCO captions")
    parser.add_argument(
        "--region-captions",
        type=Path,
        metavar="F",
        help="captions of the boxes, by annotation id or by NAME_x_y_w_h.jpg",
    )
    parser.add_argument("--panoptic", type=Path, metavar="F", help="COCO panoptic segments")
    parser.add_argument(
        "--vocabulary", metavar="V", help="file or built-in name; must have the categories"
    )
    parser.add_argument("--fix", type=Path, metavar="OUT", help="write the mended annotations")
    parser.add_argument("--json", type=Path, metavar="REPORT", help="write the report as JSON")
    args = parser.parse_args(argv)
    options = ("image_root", "captions", "region_captions", "panoptic", "vocabulary", "fix")
    for option in options:
        if args.data is not None and getattr(args, option) is not None:
            name = option.replace("_", "-")
            parser.error(f"--{name} goes with --annotations; --data says all of it")
    return args


def check(args: argparse.Namespace, progress: Callable[[int, int], None]) -> CheckedData:
    from fineclip.datasets.checking import check_data, check_described  # torch takes seconds
    from fineclip.datasets.description import read_description  # the same

    if args.data is not None:
        return check_described(read_description(args.data), progress)
    return check_data(
        args.annotations,
        image_root=args.image_root,
        captions=args.captions,
        region_captions=args.region_captions,
        panoptic=args.panoptic,
        vocabulary=args.vocabulary,
        fix=args.fix,
        progress=progress,
    )


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        for option in ("annotations", "captions", "region_captions", "panoptic"):
            if (file := getattr(args, option)) is not None:
                require_file(file, f"--{option.replace('_', '-')}")
        if args.image_root is not None:
            require_folder(args.image_root, "--image-root")
        check_out_file(args.fix, "--fix")
        check_out_file(args.json, "--json")
        with progress_bar("images", "image") as progress:
            checked = check(args, progress)
        if args.json:
            write_atomically(args.json, json.dumps(checked.as_json(), indent=2))
    except (ValueError, OSError) as error:
        return report_error(error)
    print("\n".join(checked.lines()))
    return 2 if checked.refused else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
