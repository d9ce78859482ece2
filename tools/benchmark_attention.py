"""Measures attention's fused kernel against the plain formula, by number of tokens and type."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from fineclip.command_line import ToolParser, add_device, check_out_file, positive, report_error
from fineclip.files import write_atomically
from fineclip.interrupts import run_command

LENGTHS = (17, 50, 65, 101, 145, 197, 257, 577, 1025)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=(
            "Time of the fused kernel as a share of the plain formula's, which take turns. The "
            "models choose between the two by number of tokens, type and device "
            "(fineclip/models/attention.py); this is what the choice rests on."
        )
    )
    parser.add_argument(
        "--tokens",
        type=positive,
        nargs="+",
        default=LENGTHS,
        metavar="N",
        help="lengths of sequences",
    )
    parser.add_argument("--rounds", type=positive, default=7, metavar="N", help="of both kernels")
    add_device(parser)
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the figures here, too")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        check_out_file(args.out)
        import torch  # takes seconds

        from fineclip.devices import usable_device  # the same
        from fineclip.experiments.attention_benchmark import attention_costs  # the same

        print(f"{'type':10}{'tokens':>8}{'training':>10}{'inference':>11}   fused / plain")
        rows = []
        for row in attention_costs(
            args.tokens, rounds=args.rounds, device=usable_device(args.device)
        ):
            rows.append(row)
            share = f"{row['training']:10.2f}{row['inference']:11.2f}"
            print(f"{row['dtype']:10}{row['tokens']:8}{share}", flush=True)
        if args.out:
            report = {"torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows}
            write_atomically(args.out, json.dumps(report, indent=2) + "\n")
    except (ValueError, OSError) as error:
        return report_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
