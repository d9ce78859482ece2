#!/usr/bin/env python
"""Makes the label maps of COCO-Stuff, 171 classes, from the public download.

Needed below ROOT, from stuffthingmaps_trainval2017.zip (https://github.com/nightrome/cocostuff)
and, for the images, COCO's train2017.zip and val2017.zip (https://cocodataset.org):
  coco-stuff/images/{train2017,val2017}/*.jpg
  coco-stuff/annotations/{train2017,val2017}/*.png
Made:
  coco-stuff/annotations_detectron2/{train2017,val2017}/*.png
"""

from __future__ import annotations

import functools
import sys

from segmentation.data.command_line import preparation_parser, run_preparations
from segmentation.data.preparation import COCO_STUFF_SPLITS, prepare_coco_stuff


def main(argv: list[str] | None = None) -> int:
    parser = preparation_parser(__doc__)
    parser.add_argument(
        "--splits",
        nargs="+",
        choices=COCO_STUFF_SPLITS,
        default=COCO_STUFF_SPLITS,
        help="default: both",
    )
    args = parser.parse_args(argv)
    return run_preparations([functools.partial(prepare_coco_stuff, splits=args.splits)], args)


if __name__ == "__main__":
    sys.exit(main())
