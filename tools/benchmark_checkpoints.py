#!/usr/bin/env python
"""Time and peak memory of checkpoint conversions, against copying the file.

Random weights of a full-size model are written once; every conversion and the copy then run in
processes of their own. Time is the best of several rounds, from the call to the renamed file,
without interpreter start and imports; memory is the process's peak resident size, imports included.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from fineclip.command_line import ToolParser, check_out_file, positive, report_error
from fineclip.configuration.model_names import check_model_name
from fineclip.files import require_folder, write_atomically
from fineclip.interrupts import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument("--model", default="ViT-L-14-336", metavar="M", help="open_clip name")
    parser.add_argument("--rounds", type=positive, default=10, metavar="N", help="best of so many")
    parser.add_argument(
        "--folder",
        type=Path,
        metavar="D",
        help="where temporary files go (default: the system's place for them)",
    )
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the figures here too")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        check_model_name(args.model, "--model")
        check_out_file(args.out)
        if args.folder is not None:
            require_folder(args.folder, "--folder")
        import torch  # seconds

        from fineclip.experiments.checkpoint_benchmark import (  # torch, too
            benchmark_conversions,
            conversion_table,
        )

        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            rows = benchmark_conversions(
                args.model,
                Path(folder),
                rounds=args.rounds,
                report=lambda line: print(f"{line} ...", file=sys.stderr, flush=True),
            )
        if args.out:
            report = {"model": args.model, "torch": torch.__version__, "rows": rows}
            write_atomically(args.out, json.dumps(report, indent=2) + "\n")
    except (ValueError, OSError, RuntimeError) as error:
        return report_error(error)
    print(f"{args.model}, {rows[0]['bytes'] / 2**30:.2f} GiB, best of {args.rounds}")
    print(conversion_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
