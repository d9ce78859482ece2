#!/usr/bin/env python
r"""Segments images into what a vocabulary names, with a trained CAT-Seg.

python tools/segment.py photos/ --vocabulary cat sofa "wooden floor" --out found/ \
      --weights model_final.pth --model ViT-B/16
python tools/segment.py photos/ --vocabulary-file ade150 \
      --config-file configs/segmentation/coco-stuff_vit-b-16.yaml --weights W.pth

Without both it is the tiny segmenter of the quickstart, which knows the built-in scenes.
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
from fineclip.engine.optim import default_device
from fineclip.images import UnusableImageError
from fineclip.interrupts import run_command

QUICKSTART = Path("work_dirs/quickstart/seed0/segmentation/fineclip/model_final.pth")
QUICKSTART_CONFIG = Path(__file__).parents[1] / "configs" / "segmentation" / "scenes_vit-ti-8.yaml"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_images_and_names(parser)
    parser.add_argument(
        "--weights",
        "--checkpoint",
        metavar="W",
        help="of the trained segmenter (default: those the config names, without one "
        f"{QUICKSTART})",
    )
    parser.add_argument(
        "--config-file",
        metavar="C",
        help="its configuration, for which detectron2 is needed (default: the network of the "
        "published recipes on --model)",
    )
    parser.add_argument(
        "--model", default="ViT-B/16", help="its CLIP, where there is no config (%(default)s)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("segmentations"),
        metavar="DIR",
        help="where overlays, label maps and segmentation.json go (default: %(default)s)",
    )
    parser.add_argument("--device", default=str(default_device()), help="default: %(default)s")
    parser.add_argument(
        "--options",
        nargs="+",
        default=[],
        metavar="KEY VALUE",
        help="overrides of the config, such as TEST.SLIDING_WINDOW False",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    silence_libraries()
    from segmentation.inference import (  # detectron2 takes 10 s: --help is fast
        load_segmenter,
        segment_images,
    )

    try:
        files = list_images(args.images)
        names = asked_names(args).names
        if args.weights is None and args.config_file is None:
            args.weights, args.config_file = quickstart_result(QUICKSTART), QUICKSTART_CONFIG
        segmenter = load_segmenter(
            args.weights,
            config_file=args.config_file,
            options=args.options,
            model=args.model,
            device=args.device,
        )
    except (ValueError, OSError) as error:
        return report_error(error)
    unusable: list[UnusableImageError] = []
    done = segment_images(segmenter, readable_images(files, unusable), names, args.out)
    print(f"{len(done)} images segmented into {len(names)} names: {args.out}")
    return report_unusable(unusable)


if __name__ == "__main__":
    sys.exit(run_command(main))
