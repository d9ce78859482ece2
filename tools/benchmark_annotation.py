"""Measures the data engine on generated images, or kills it at random moments."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from fineclip.command_line import ToolParser, check_out_file, positive, report_error
from fineclip.command_line.options import integer_argument
from fineclip.files import require_folder, write_atomically
from fineclip.interrupts import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=(
            "Run existing boxes and templates over generated images: in one process, and with Ray. "
            "Images a second, memory in the second and the last quarter of the run, and seconds "
            "of opening the result for training. With --kills, runs are killed at random moments "
            "instead and continued, and their files compared with an uninterrupted run's."
        )
    )
    parser.add_argument("--images", type=positive, default=20000, metavar="N", help="how many")
    parser.add_argument(
        "--image-size", type=positive, default=512, metavar="PX", help="side of the images"
    )
    parser.add_argument(
        "--workers",
        type=integer_argument(0),
        nargs="+",
        default=[1, 2],
        metavar="N",
        help="processes of Ray; with --kills, 0 is one process without Ray",
    )
    parser.add_argument(
        "--kills", type=integer_argument(0), default=0, metavar="N", help="of each kind of run"
    )
    parser.add_argument(
        "--photographs",
        type=Path,
        metavar="D",
        help="measure instead how many photographs of this folder are recognised when changed",
    )
    parser.add_argument("--seed", type=integer_argument(0), default=0, metavar="S", help="of kills")
    parser.add_argument(
        "--work-dir", type=Path, metavar="D", help="where images go (default: a temporary folder)"
    )
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the result here, too")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        check_out_file(args.out)
        from fineclip.experiments.annotation_benchmark import (  # torch takes seconds
            benchmark_annotation,
            kill_annotation,
            recognise_changed,
        )

        with tempfile.TemporaryDirectory() as temporary:
            folder = args.work_dir or Path(temporary)
            if args.photographs is not None:
                result = recognise_changed(require_folder(args.photographs, "--photographs"))
                print(json.dumps(result))
            elif args.kills:
                result = {
                    str(workers): kill_annotation(
                        folder / f"killed-{workers}",
                        args.kills,
                        workers=workers or None,
                        seed=args.seed,
                        report=lambda line: print(line, flush=True),
                    )
                    for workers in args.workers
                }
                print(json.dumps(result))
            else:
                result = benchmark_annotation(
                    folder,
                    args.images,
                    size=args.image_size,
                    workers=tuple(filter(None, args.workers)),
                    report=lambda line: print(line, flush=True),
                )
        if args.out is not None:
            write_atomically(args.out, json.dumps(result, indent=1) + "\n")
    except (ValueError, OSError, RuntimeError) as error:
        return report_error(error)
    return int(args.kills > 0 and any(found["different"] for found in result.values()))


if __name__ == "__main__":
    sys.exit(run_command(main))
