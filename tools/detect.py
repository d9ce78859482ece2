#!/usr/bin/env python
r"""Detects in images what a vocabulary names, with a trained F-ViT.

python tools/detect.py photos/ --vocabulary cat "a red umbrella" --out found/ \
      --checkpoint work_dirs/ov-coco_eva02-b-16

Without --checkpoint it is the tiny detector of the quickstart, which knows the built-in scenes.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path

from mmengine.config import DictAction

from fineclip.checkpoints import CheckpointError
from fineclip.command_line import add_images_and_names, readable_images
from fineclip.datasets.files import list_images
from fineclip.engine import default_device, load_config
from fineclip.files import replacing, write_atomically
from fineclip.text import as_vocabulary

QUICKSTART = Path("work_dirs/quickstart/seed0/detection/fineclip")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_images_and_names(parser)
    parser.add_argument(
        "--checkpoint",
        type=Path,
        default=QUICKSTART,
        metavar="W",
        help="trained weights, or the work dir of their training (default: %(default)s)",
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
        "--cfg-options", nargs="+", action=DictAction, default={}, metavar="K=V", help="overrides"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    logging.getLogger().setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    # Imported late: usage and --help need no detector.
    from detection.drawing import draw_detections
    from detection.inference import OpenVocabularyDetector, coco_results, trained_detector

    try:
        files = list_images(args.images)
        vocabulary = as_vocabulary(args.vocabulary or args.vocabulary_file)
        if args.checkpoint == QUICKSTART and not QUICKSTART.exists():
            raise FileNotFoundError(
                f"{QUICKSTART} does not exist: run bash tools/quickstart.sh, or name a trained "
                "detector with --checkpoint"
            )
        config, checkpoint = args.config, args.checkpoint
        if config is None or checkpoint.is_dir():
            found, checkpoint = trained_detector(checkpoint)
            config = config or found
        detector = OpenVocabularyDetector(
            load_config(config, args.cfg_options),
            checkpoint,
            vocabulary,
            text_pretrained=args.text_pretrained,
            device=args.device,
        )
    except (ValueError, OSError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    results, unusable = [], []
    for number, file, image in readable_images(files, unusable):
        found = detector.detect(image, args.score_threshold)
        results.extend(coco_results(file, number, found))
        with replacing(args.out / f"{number:04d}_{file.stem}.png") as temporary:
            draw_detections(image, found).save(temporary, format="PNG")
    write_atomically(args.out / "detections.json", json.dumps(results, indent=1) + "\n")
    print(f"{len(results)} objects in {len(files) - len(unusable)} images: {args.out}")
    for error in unusable:
        print(f"error: {error}", file=sys.stderr)
    return 2 if unusable else 0


if __name__ == "__main__":
    sys.exit(main())
