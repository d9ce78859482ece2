"""Compares all configs with the published settings they stand for (configs/published.json)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fineclip.command_line import ToolParser, report_error
from fineclip.interrupts import run_command

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description="Compare all configs with the published settings they stand for "
        "(configs/published.json). A row per setting that differs, with the reason. Exit code 1 "
        "where one has none, or the table does not mention a config or gives a reason for what "
        "does not differ."
    )
    parser.add_argument(
        "--configs",
        type=Path,
        default=CONFIGS,
        metavar="D",
        help="folder with configs and published.json (default: the repository's)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    from fineclip.experiments.recipes import compare_recipes  # torch takes seconds
    from fineclip.experiments.results import markdown_table  # the same

    try:
        differences, flaws = compare_recipes(args.configs)
    except (ValueError, OSError) as error:
        return report_error(error)
    head = ("config", "setting", "published", "here", "why")
    rows = [
        (d.config, d.key, str(d.published), str(d.here), d.reason or "NOT EXPLAINED")
        for d in differences
    ]
    print(markdown_table(head, rows))
    unexplained = sum(not d.reason for d in differences)
    print(f"\n{len(differences)} differences, {unexplained} of them not explained")
    for flaw in flaws:
        print(f"error: {flaw}", file=sys.stderr)
    return 1 if unexplained or flaws else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
