#!/usr/bin/env python
"""Writes a report on one or several runs as one HTML file that needs nothing beside it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fineclip.command_line import (
    ERRORS_EPILOG,
    ToolParser,
    check_out_file,
    integer_argument,
    report_error,
)
from fineclip.interrupts import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=__doc__,
        epilog="What ran, curves, final metrics side by side and beside published ones, and, "
        "where\npredictions are saved in a work dir (--save-predictions of evaluate_clip.py and "
        f"test.py), confused\ncategories and the best and worst pictures.\n{ERRORS_EPILOG}",
    )
    parser.add_argument(
        "work_dirs",
        nargs="+",
        type=Path,
        metavar="WORK_DIR",
        help="the folder of a training, or one that holds such folders: a quickstart, an ablation",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("report.html"),
        metavar="F.html",
        help="the file to write (default: report.html)",
    )
    parser.add_argument(
        "--pictures",
        type=integer_argument(0),
        default=6,
        metavar="N",
        help="best and worst pictures of each file of predictions (default: 6)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        check_out_file(args.out)
        from fineclip.reporting import write_report  # Pillow and NumPy: not for --help

        write_report(args.work_dirs, args.out, pictures=args.pictures)
    except (ValueError, OSError) as error:
        return report_error(error)
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
