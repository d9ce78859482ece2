#!/usr/bin/env python
r"""Detects in images what a vocabulary names, with a trained F-ViT.

python tools/detect.py photos/ --vocabulary cat "a red umbrella" --out found/ \
      --weights work_dirs/ov-coco_eva02-b-16

Without --weights it is the tiny detector of the quickstart, which knows the built-in scenes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fineclip.command_line import (
    ToolParser,
    add_cfg_options,
    add_config,
    add_device,
    add_exemplars,
    add_images_and_names,
    add_weights,
    positive,
    real_number,
    report_error,
    silence_libraries,
)
from fineclip.interrupts import run_command
from fineclip.weights import quickstart_result, weights_file

QUICKSTART = Path("work_dirs/quickstart/seed0/detection/fineclip")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    add_images_and_names(parser)
    add_exemplars(parser)
    add_weights(
        parser,
        f"trained weights, or the work dir of their training (default: {QUICKSTART})",
        type=Path,
    )
    add_config(
        parser,
        "config of the detector, a Python file that is run (default: the plain_config.json beside "
        "the weights, read as data)",
    )
    parser.add_argument(
        "--text-weights",
        "--text-pretrained",
        metavar="W",
        help="weights of the text tower (default: those the config names)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("detections"),
        metavar="DIR",
        help="where drawn images and detections.json go",
    )
    parser.add_argument(
        "--score-threshold",
        type=real_number(0, 1),
        default=0.2,
        metavar="S",
        help="leave out what is less certain",
    )
    parser.add_argument(
        "--batch-size", type=positive, default=1, metavar="N", help="images at a time"
    )
    parser.add_argument(
        "--amp", choices=("bf16", "fp16"), help="mixed precision (default: float32)"
    )
    add_device(parser)
    add_cfg_options(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    silence_libraries()
    from fineclip.command_line import images as asked  # NumPy and Pillow: not for --help
    from fineclip.configuration.reading import read_config  # mmengine: the same

    try:
        files = asked.asked_images(args)
        vocabulary = asked.asked_names(args)
        weights = weights_file(args.weights or quickstart_result(QUICKSTART))
        if args.config:
            read_config(args.config, args.cfg_options)
        from fineclip.devices import autocast_type, usable_device  # torch takes seconds

        device = usable_device(args.device)
        amp = autocast_type(args.amp, device)
        from detection.inference import detect_images, load_detector  # mmdet takes 10 s

        detector = load_detector(
            weights,
            vocabulary,
            config_file=args.config,
            options=args.cfg_options,
            text_pretrained=args.text_weights,
            device=device,
            amp=amp,
            exemplar_weight=args.exemplar_weight,
        )
    except (ValueError, OSError) as error:
        return report_error(error)
    unusable: list[asked.UnusableImageError] = []
    images = asked.readable_images(files, unusable)
    results = detect_images(detector, images, args.out, args.score_threshold, args.batch_size)
    print(f"{len(results)} objects in {len(files) - len(unusable)} images: {args.out}")
    return asked.report_unusable(unusable)


if __name__ == "__main__":
    sys.exit(run_command(main))
