#!/usr/bin/env python
r"""Fine-tunes starts on own data by each means of tools/finetune.py, and prints one table.

python tools/evaluate_finetuning.py --starts work_dirs/fvit/0 work_dirs/fvit/1 \
      --data data/own/0 data/own/1

docs/finetuning.md has the table of the scenes, and how starts and data were made.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from finetune import TUNERS, add_means, means_of

from fineclip.command_line import ToolParser, report_error
from fineclip.interrupts import run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument(
        "--starts", type=Path, nargs="+", required=True, metavar="PATH", help="one for each seed"
    )
    parser.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="F.yaml", help="likewise"
    )
    return parser.parse_args(argv)
