#!/usr/bin/env python
"""Time of attention's fused kernel as a share of the plain formula's, which take turns.

The models choose between the two by number of tokens, type and device
(fineclip/models/attention.py); this is what the choice rests on.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

LENGTHS = (17, 50, 65, 101, 145, 197, 257, 577, 1025)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tokens", type=int, nargs="+", default=LENGTHS, metavar="N", help="default: %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="default: %(default)s")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the figures here too")
    args = parser.parse_args(argv)
    if min(args.rounds, *args.tokens) < 1:
        parser.error("--rounds and --tokens must be at least 1")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    import torch  # takes seconds, which --help should not

    from fineclip.experiments.attention_benchmark import attention_costs  # the same
    from fineclip.files import write_atomically  # the same

    print(f"{'type':10}{'tokens':>8}{'training':>10}{'inference':>11}   fused / plain")
    rows = []
    for row in attention_costs(args.tokens, rounds=args.rounds, device=args.device):
        rows.append(row)
        share = f"{row['training']:10.2f}{row['inference']:11.2f}"
        print(f"{row['dtype']:10}{row['tokens']:8}{share}", flush=True)
    if args.out:
        report = {"torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows}
        write_atomically(args.out, json.dumps(report, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
