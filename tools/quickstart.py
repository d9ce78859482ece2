#!/usr/bin/env python
"""Makes scenes, trains a tiny CLIP, continues it with and without FineCLIP, and compares them."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import warnings
from pathlib import Path

from fineclip.experiments.scenes import (
    STAGES,
    Settings,
    plot_curves,
    run_scenes,
    summarize,
    table,
)
from fineclip.files import write_atomically


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Finished stages are kept: a second run prints its table at once, an interrupted "
        "one continues. Delete the work dir to start again.",
    )
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/quickstart"), metavar="D")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="S", help="default: 0")
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=STAGES,
        default=list(STAGES),
        metavar="STAGE",
        help=f"run only some of: {', '.join(STAGES)}",
    )
    defaults = Settings()
    sizes = parser.add_argument_group("size of the experiment")
    sizes.add_argument("--images", type=int, default=defaults.images, metavar="N")
    sizes.add_argument("--val-images", type=int, default=defaults.val_images, metavar="N")
    sizes.add_argument("--pretrain-epochs", type=int, default=defaults.pretrain_epochs, metavar="N")
    sizes.add_argument("--epochs", type=int, default=defaults.epochs, metavar="N")
    args = parser.parse_args(argv)
    for name in ("images", "val_images", "pretrain_epochs", "epochs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    return args


def main() -> int:
    args = parse_args()
    # mmengine and open_clip announce at length what every tiny run does.
    logging.getLogger().setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="mmengine|torch")
    settings = Settings(
        images=args.images,
        val_images=args.val_images,
        pretrain_epochs=args.pretrain_epochs,
        epochs=args.epochs,
    )
    start = time.monotonic()
    by_seed = {}
    try:
        for seed in dict.fromkeys(args.seeds):
            by_seed[seed] = run_scenes(
                args.work_dir,
                seed=seed,
                settings=settings,
                stages=args.stages,
                report=lambda line: print(line, flush=True),
            )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command continues from the last epoch", file=sys.stderr)
        return 130
    write_atomically(
        args.work_dir / "summary.json", json.dumps(summarize(by_seed), indent=2) + "\n"
    )
    curves = args.work_dir / "training_curves.png"
    plot_curves(args.work_dir, next(iter(by_seed)), curves)
    print(f"\n{table(by_seed)}\n")
    print(f"{args.work_dir / 'summary.json'} and {curves} ({time.monotonic() - start:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
