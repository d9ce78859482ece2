#!/usr/bin/env python
r"""Time and memory of CAT-Seg's inference against its plain formulas; the answers are compared.

Weights and pixels are random. The setting of the ADE20K-847 benchmark:

  python tools/benchmark_segmentation.py --model ViT-B/16 --vocabulary ade847
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from fineclip.engine.optim import default_device
from fineclip.files import write_atomically
from fineclip.text import load_vocabulary
from segmentation.experiments.inference_benchmark import (
    MODES,
    InferenceSettings,
    benchmark_modes,
    mode_table,
)

YARDSTICKS = Path(__file__).parent / "yardsticks"  # slow twins, no part of the packages


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="modes: " + "; ".join(f"{name}: {what}" for name, what in MODES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = InferenceSettings()
    parser.add_argument("--model", default=defaults.model, help="CLIP model (%(default)s)")
    parser.add_argument(
        "--vocabulary", default=defaults.vocabulary, metavar="F", help="class list (%(default)s)"
    )
    parser.add_argument(
        "--grid",
        type=_positive,
        default=defaults.grid,
        metavar="N",
        help="side of CLIP's input in patches (%(default)s)",
    )
    parser.add_argument(
        "--image",
        type=_positive,
        nargs=2,
        default=(defaults.height, defaults.width),
        metavar=("H", "W"),
        help=f"its size in pixels ({defaults.height} {defaults.width})",
    )
    parser.add_argument(
        "--whole-image", action="store_true", help="one input in place of sliding windows"
    )
    parser.add_argument(
        "--memory-budget", type=float, metavar="GIB", help="of the lean mode (default: 2)"
    )
    parser.add_argument(
        "--modes",
        default=",".join(MODES),
        metavar="M,M,...",
        help="the others are compared with the first (%(default)s)",
    )
    parser.add_argument("--device", default=str(default_device()), help="default: %(default)s")
    parser.add_argument("--threads", type=_positive, metavar="N", help="CPU threads")
    parser.add_argument("--out", type=Path, metavar="F.json", help="write the figures here too")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number of at least 1")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.getLogger().setLevel(logging.ERROR)
    settings = InferenceSettings(
        model=args.model,
        vocabulary=args.vocabulary,
        grid=args.grid,
        height=args.image[0],
        width=args.image[1],
        sliding_window=not args.whole_image,
        memory_budget=args.memory_budget and int(args.memory_budget * 2**30),
        device=args.device,
        threads=args.threads,
        yardstick=str(YARDSTICKS / "plain_inference.py"),
    )
    try:
        load_vocabulary(args.vocabulary)
        result = benchmark_modes(
            settings, args.modes.split(","), lambda line: print(line, file=sys.stderr, flush=True)
        )
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(mode_table(result))
    if args.out:
        write_atomically(args.out, json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
