#!/usr/bin/env python
r"""Segments images into what a vocabulary names, with a trained CAT-Seg.

python tools/segment.py photos/ --vocabulary cat sofa "wooden floor" --out found/ \
      --weights work_dirs/coco-stuff_vit-b-16
python tools/segment.py photos/ --vocabulary-file ade150 --weights model_final.pth --model ViT-B/16

Without --weights it is the tiny segmenter of the quickstart, which knows the built-in scenes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fineclip.command_line import (
    ToolParser,
    add_config,
    add_device,
    add_exemplars,
    add_images_and_names,
    add_key_values,
    add_weights,
    check_key_values,
    real_number,
    report_error,
    silence_libraries,
)
from fineclip.interrupts import run_command
from fineclip.weights import config_beside, quickstart_result, weights_file

QUICKSTART = Path("work_dirs/quickstart/seed0/segmentation/fineclip")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    add_images_and_names(parser)
    add_exemplars(parser)
    add_weights(
        parser,
        "trained weights, or the work dir of their training (default: those that --config names, "
        f"without it {QUICKSTART})",
        type=Path,
    )
    add_config(
        parser,
        "configuration of the segmenter, for which detectron2 is needed (default: config.yaml "
        "beside the weights; without one, the network of the published recipes on --model)",
    )
    parser.add_argument(
        "--model",
        metavar="M",
        help="its CLIP, for the published recipes in place of a config (default: ViT-B/16)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("segmentations"),
        metavar="DIR",
        help="where overlays, label maps and segmentation.json go",
    )
    parser.add_argument(
        "--opacity",
        type=real_number(0, 1),
        default=0.55,
        metavar="A",
        help="share of the colours inside the outlines",
    )
    parser.add_argument(
        "--none-below",
        type=real_number(0, 1),
        default=0.0,
        metavar="S",
        help="pixels whose best name has a lower probability are none of the names",
    )
    parser.add_argument(
        "--scores",
        action="store_true",
        help="write the probability of each pixel's name, too: NUMBER_NAME_scores.png, 255 is 1",
    )
    add_device(parser)
    add_key_values(parser, "overrides of the config, such as TEST.SLIDING_WINDOW=False")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    silence_libraries()
    from fineclip.command_line import images as asked  # NumPy and Pillow: not for --help

    try:
        files = asked.asked_images(args)
        vocabulary = asked.asked_names(args)
        weights, config = args.weights, args.config
        if weights is None and config is None:
            weights = quickstart_result(QUICKSTART)
        if weights is not None:
            weights = weights_file(weights)
        if config is None and args.model is None:
            config = config_beside(weights)
        if config is not None and not Path(config).is_file():
            raise FileNotFoundError(f"configuration {config} does not exist")
        check_key_values(args.cfg_options)
        from fineclip.devices import usable_device  # torch takes seconds

        device = usable_device(args.device)
        from segmentation import inference  # detectron2 takes 10 s

        segmenter = inference.load_segmenter(
            weights,
            config_file=config,
            options=args.cfg_options,
            model=args.model or "ViT-B/16",
            device=device,
        )
        segmenter.use_exemplars(vocabulary, args.exemplar_weight)
    except (ValueError, OSError) as error:
        return report_error(error)
    unusable: list[asked.UnusableImageError] = []
    images = asked.readable_images(files, unusable)
    options = inference.OverlayOptions(args.opacity, args.none_below, args.scores)
    names = vocabulary.prompt_names
    done = inference.segment_images(segmenter, images, names, args.out, options)
    print(f"{len(done)} images segmented into {len(names)} names: {args.out}")
    return asked.report_unusable(unusable)


if __name__ == "__main__":
    sys.exit(run_command(main))
