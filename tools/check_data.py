"""Checks annotation files and images as training and evaluation read them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fineclip.command_line import ToolParser, check_out_file, progress_bar, report_error
from fineclip.files import require_file, require_folder, write_atomically
from fineclip.interrupts import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=(
            "Say what is wrong with the files of a data set: what is mended when they are read, "
            "what is left out, what is refused. Exit code 0: clean, or mended aloud; 2: refused."
        ),
    )
    parser.add_argument(
        "--annotations",
        required=True,
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
    return parser.parse_args(argv)


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
        from fineclip.datasets.checking import check_data  # torch takes seconds

        with progress_bar("images", "image") as progress:
            checked = check_data(
                args.annotations,
                image_root=args.image_root,
                captions=args.captions,
                region_captions=args.region_captions,
                panoptic=args.panoptic,
                vocabulary=args.vocabulary,
                fix=args.fix,
                progress=progress,
            )
        if args.json:
            write_atomically(args.json, json.dumps(checked.as_json(), indent=2))
    except (ValueError, OSError) as error:
        return report_error(error)
    print("\n".join(checked.lines()))
    return 2 if checked.refused else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
