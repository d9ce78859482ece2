#!/usr/bin/env python
"""Kills running commands, continues them, and compares the end with uninterrupted runs.

python tests/kill_runs.py --kills 100 --seed 1 --json kills.json

Pretraining, detection, segmentation, shards, annotation, preparation and conversion on tiny data,
killed at random moments and while they save. Exit code 1 where one could not be continued, ended
with other files (to the bit), had a pointer that led nowhere, or left temporary files.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.pop(0)  # this folder, whose subfolders have the names of our packages
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent / "support"))

from killing import COUNTS, kill_runs

from fineclip.files import write_atomically


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--kills", type=int, default=6, metavar="N", help="how many (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of all draws (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the counts here")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        counts = kill_runs(
            Path(folder), args.kills, args.seed, lambda line: print(line, flush=True)
        )
    if args.json:
        write_atomically(args.json, json.dumps(counts, indent=1) + "\n")
    print(", ".join(f"{counts[name]} {name}" for name in COUNTS))
    print(", ".join(f"{number} of {kind}" for kind, number in counts["by_kind"].items()))
    return int(any(counts[name] for name in COUNTS if name != "kills"))


if __name__ == "__main__":
    sys.exit(main())
