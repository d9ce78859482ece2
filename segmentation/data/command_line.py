"""What the tools that prepare data sets have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from segmentation.data.benchmarks import default_root
from segmentation.data.preparation import Prepared


def preparation_parser(description: str) -> argparse.ArgumentParser:
    """A parser with ``--root`` and ``--workers``.

    Args:
        description: Shown as it is written.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "What is there already is kept, so an interrupted run goes on where it stopped.\n"
            "Exit code 2 and one line on standard error for bad usage or bad input."
        ),
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=default_root(),
        help="folder of data sets (default: $DETECTRON2_DATASETS, or datasets)",
    )
    parser.add_argument(
        "--workers", metavar="N", type=_positive, default=1, help="processes (default: 1)"
    )
    return parser


def run_preparations(
    preparations: Sequence[Callable[..., list[Prepared]]], args: argparse.Namespace
) -> int:
    """Prepares data sets with a progress bar for each folder.

    Args:
        preparations: Functions of :mod:`segmentation.data.preparation`.
        args: Of :func:`preparation_parser`.

    Returns:
        Exit code: 0, or 2 after a line on standard error.
    """
    try:
        for prepare in preparations:
            for folder in _with_bar(prepare, args):
                sys.stdout.write(f"{folder}\n")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    return 0


def _with_bar(prepare: Callable[..., list[Prepared]], args: argparse.Namespace) -> list[Prepared]:
    # Shown from the first file on: an error, or nothing to do, needs no bar.
    with tqdm(desc="label maps", unit="file", mininterval=1, delay=0.1) as bar:

        def show(done: int, total: int) -> None:
            if done < bar.n:  # the next folder
                bar.reset()
            bar.total = total
            bar.update(done - bar.n)

        return prepare(args.root, workers=args.workers, progress=show)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value
