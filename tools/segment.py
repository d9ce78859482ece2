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
import json
import logging
import sys
import warnings
from pathlib import Path

from fineclip.command_line import add_images_and_names, readable_images
from fineclip.datasets.files import list_images
from fineclip.engine.optim import default_device
from fineclip.files import replacing, write_atomically
from fineclip.text import as_vocabulary

QUICKSTART = Path("work_dirs/quickstart/seed0/segmentation/fineclip/model_final.pth")
QUICKSTART_CONFIG = Path(__file__).parents[1] / "configs" / "segmentation" / "scenes_vit-ti-8.yaml"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_images_and_names(parser)
    parser.add_argument(
        "--weights",
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
    logging.getLogger().setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    # Imported late: usage and --help need no segmenter.
    import numpy as np

    from segmentation.drawing import draw_segmentation, save_label_map
    from segmentation.inference import load_segmenter

    try:
        files = list_images(args.images)
        names = as_vocabulary(args.vocabulary or args.vocabulary_file).names
        if args.weights is None and args.config_file is None:
            if not QUICKSTART.is_file():
                raise FileNotFoundError(
                    f"{QUICKSTART} does not exist: run bash tools/quickstart.sh, or name a trained "
                    "segmenter with --weights"
                )
            args.weights, args.config_file = QUICKSTART, QUICKSTART_CONFIG
        segmenter = load_segmenter(
            args.weights,
            config_file=args.config_file,
            options=args.options,
            model=args.model,
            device=args.device,
        )
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    done, unusable = [], []
    for number, file, image in readable_images(files, unusable):
        labels = segmenter.segment(image, names)
        stem = f"{number:04d}_{file.stem}"
        with replacing(args.out / f"{stem}.png") as temporary:
            draw_segmentation(image, labels, names).save(temporary, format="PNG")
        save_label_map(labels, args.out / f"{stem}_labels.png", len(names))
        present, counts = np.unique(labels, return_counts=True)
        shares = {
            int(i): round(int(c) / labels.size, 6) for i, c in zip(present, counts, strict=True)
        }
        done.append({"file_name": file.name, "label_map": f"{stem}_labels.png", "shares": shares})
    content = {"names": dict(enumerate(names)), "images": done}
    write_atomically(args.out / "segmentation.json", json.dumps(content, indent=1) + "\n")
    print(f"{len(done)} images segmented into {len(names)} names: {args.out}")
    for error in unusable:
        print(f"error: {error}", file=sys.stderr)
    return 2 if unusable else 0


if __name__ == "__main__":
    sys.exit(main())
