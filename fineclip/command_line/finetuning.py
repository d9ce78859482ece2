"""Options that the commands of fine-tuning share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fineclip.command_line.options import positive, real_number

_SCHEDULE = ("epochs", "batch_size", "lr")


def add_finetuning(parser: argparse.ArgumentParser) -> None:
    """Adds what rehearsing, measuring and mixing take, and the schedule."""
    parser.add_argument(
        "--rehearse",
        type=Path,
        metavar="F.yaml",
        help="description of the data that are rehearsed (default: those that the start was "
        "trained on)",
    )
    parser.add_argument(
        "--share",
        type=real_number(0, 0.95),
        default=0.2,
        metavar="X",
        help="of the training images that are rehearsed",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="F.yaml",
        help="description of the data on which the kept knowledge is measured (default: those "
        "that the start is evaluated on)",
    )
    parser.add_argument(
        "--alphas",
        type=real_number(0, 1),
        nargs="+",
        default=[round(0.1 * step, 1) for step in range(1, 11)],
        metavar="A",
        help="shares of the fine-tuned weights that are tried",
    )
    parser.add_argument(
        "--amp", choices=("bf16", "fp16"), help="mixed precision of the training (default: float32)"
    )
    group = parser.add_argument_group("schedule, which else follows from the number of images")
    unsaid = "(default: by the number of images)"
    group.add_argument(
        "--epochs", type=positive, metavar="N", help=f"passes over one's own images {unsaid}"
    )
    group.add_argument(
        "--batch-size", type=positive, metavar="N", help=f"images of a step {unsaid}"
    )
    group.add_argument(
        "--lr", type=real_number(0), metavar="X", help="learning rate (default: the start's)"
    )


def finetuning_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What these options say, by the names of ``fineclip.experiments.finetuning.FineTuning``."""
    schedule = {name: getattr(args, name) for name in _SCHEDULE}
    return {
        "rehearse": args.rehearse,
        "share": args.share,
        "reference": args.reference,
        "alphas": tuple(args.alphas),
        "amp": args.amp,
        "recipe": {name: value for name, value in schedule.items() if value is not None},
    }
