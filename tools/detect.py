#!/usr/bin/env python
r"""Detects in images what a vocabulary names, with a trained F-ViT.

python tools/detect.py photos/ --vocabulary cat "a red umbrella" --out found/ \
      --checkpoint work_dirs/ov-coco_eva02-b-16

Without --checkpoint it is the tiny detector of the quickstart, which knows the built-in scenes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fineclip.command_line import (
    add_images_and_names,
    asked_names,
    quickstart_result,
    readable_images,
    report_error,
    report_unusable,
    silence_libraries,
)
from fineclip.datasets.files import list_images
from fineclip.engine import OverridesAction, default_device
from fineclip.images import UnusableImageError
from fineclip.interrupts import run_command

QUICKSTART = Path("work_dirs/quickstart/seed0/detection/fineclip")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_images_and_names(parser)
    parser.add_argument(
        "--checkpoint",
        "--weights",
        type=Path,
        metavar="W",
        help=f"trained weights, or the work dir of their training (default: {QUICKSTART})",
    )
    parser.add_argument(
        "--config", metavar="C", help="config of the detector (default: the one beside the weights)"
    )
    parser.add_argument(
        "--text-pretrained",
        metavar="T",
        help="weights of the text tower (default: those the config names)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("detections"),
        metavar="DIR",
        help="where drawn images and detections.json go (default: %(default)s)",
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        default=0.2,
        metavar="S",
        help="leave out what is less certain (default: %(default)s)",
    )
    parser.add_argument("--device", default=str(default_device()), help="default: %(default)s")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=OverridesAction,
        default={},
        metavar="K=V",
        help="overrides",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    silence_libraries()
    from detection.inference import detect_images, load_detector  # mmdet takes 10 s: --help is fast

    try:
        files = list_images(args.images)
        vocabulary = asked_names(args)
        detector = load_detector(
            args.checkpoint or quickstart_result(QUICKSTART),
            vocabulary,
            config_file=args.config,
            options=args.cfg_options,
            text_pretrained=args.text_pretrained,
            device=args.device,
        )
    except (ValueError, OSError) as error:
        return report_error(error)
    unusable: list[UnusableImageError] = []
    images = readable_images(files, unusable)
    results = detect_images(detector, images, args.out, args.score_threshold)
    print(f"{len(results)} objects in {len(files) - len(unusable)} images: {args.out}")
    return report_unusable(unusable)


if __name__ == "__main__":
    sys.exit(run_command(main))
