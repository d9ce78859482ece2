#!/usr/bin/env python
"""Makes the OV-LVIS training annotations (rare classes are novel) from LVIS v1's.

No box of a rare category is left; validation uses lvis_v1_val.json as it is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from detection.datasets.preparation import OV_LVIS_FILES, prepare_ov_lvis


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit code 2 and one line on standard error for bad usage or bad input.",
    )
    source, target = OV_LVIS_FILES
    parser.add_argument(
        "annotations_dir", metavar="ANNOTATIONS_DIR", type=Path, help=f"folder with {source}"
    )
    parser.add_argument("out", metavar="OUT", type=Path, help=f"folder to write {target} to")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        prepare_ov_lvis(args.annotations_dir, args.out, report=show)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def show(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
