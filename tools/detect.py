#!/usr/bin/env python
r"""Detects in images what a vocabulary names, with a trained F-ViT.

python tools/detect.py photos/ --vocabulary "a red ring" "a blue star" --out found/ \
      --config configs/detection/scenes_fvit.py --checkpoint work_dirs/scenes_fvit/epoch_4.pth
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from pathlib import Path

from mmengine.config import DictAction
from tqdm import tqdm

from fineclip.checkpoints import CheckpointError
from fineclip.datasets.files import UnusableImageError, list_images, open_image
from fineclip.engine import default_device, load_config
from fineclip.files import write_atomically
from fineclip.text import as_vocabulary


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files or folders of them")
    names = parser.add_mutually_exclusive_group(required=True)
    names.add_argument("--vocabulary", nargs="+", metavar="NAME", help="what to look for")
    names.add_argument(
        "--vocabulary-file", metavar="F", help="JSON vocabulary, or the name of a built-in one"
    )
    parser.add_argument("--config", required=True, metavar="C", help="config of the detector")
    parser.add_argument("--checkpoint", required=True, metavar="W", help="its trained weights")
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
    from detection.inference import OpenVocabularyDetector, coco_results

    try:
        files = list_images(args.images)
        vocabulary = as_vocabulary(args.vocabulary or args.vocabulary_file)
        detector = OpenVocabularyDetector(
            load_config(args.config, args.cfg_options),
            args.checkpoint,
            vocabulary,
            text_pretrained=args.text_pretrained,
            device=args.device,
        )
    except (ValueError, OSError, CheckpointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    results, unusable = [], []
    for number, file in enumerate(tqdm(files, unit="image", disable=len(files) == 1), 1):
        try:
            image = open_image(file)
        except UnusableImageError as error:
            unusable.append(error)
            continue
        found = detector.detect(image, args.score_threshold)
        results.extend(coco_results(file, number, found))
        draw_detections(image, found).save(args.out / f"{number:04d}_{file.stem}.png")
    write_atomically(args.out / "detections.json", json.dumps(results, indent=1) + "\n")
    print(f"{len(results)} objects in {len(files) - len(unusable)} images: {args.out}")
    for error in unusable:
        print(f"error: {error}", file=sys.stderr)
    return 2 if unusable else 0


if __name__ == "__main__":
    sys.exit(main())
