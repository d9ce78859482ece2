#!/usr/bin/env python
"""Feeds odd inputs to the readers of all commands, and counts how they end.

python tests/fuzz_inputs.py --seconds 300 --seed 1 --json fuzz.json

Images, COCO files, shards, vocabularies, checkpoints and overrides are made in a temporary folder
and changed one at a time. Exit code 1 where one ended in a traceback, hung, was changed silently,
or in an error that does not name the file.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.pop(0)  # this folder, whose subfolders have the names of our packages
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent / "support"))

from fuzzing import OUTCOMES, make_kinds, run

from fineclip.files import write_atomically


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=60, metavar="S", help="how long (default: %(default)s)"
    )
    parser.add_argument("--inputs", type=int, metavar="N", help="stop after this many")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of all draws (default: %(default)s)"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=10,
        metavar="S",
        help="for one input; more is a hang (default: %(default)s)",
    )
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help="only these")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write counts and examples here")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        kinds = make_kinds(Path(folder))
        if unknown := sorted(set(args.kinds or ()) - set(kinds)):
            parser.error(f"unknown kind {', '.join(unknown)}; known: {', '.join(kinds)}")
        report = run(
            {name: kind for name, kind in kinds.items() if name in (args.kinds or kinds)},
            args.seed,
            seconds=args.seconds,
            inputs=args.inputs or float("inf"),
            limit=args.limit,
        ).as_json()
    if args.json:
        write_atomically(args.json, json.dumps(report, indent=1) + "\n")
    width = max(map(len, report["kinds"]), default=0)
    for kind, counts in {**report["kinds"], "all": report}.items():
        numbers = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if counts[name])
        print(f"{kind:{width}}  {counts['inputs']:5} inputs: {numbers}")
    return int(any(report[name] for name in set(OUTCOMES) - {"clear_error", "read"}))


if __name__ == "__main__":
    sys.exit(main())
