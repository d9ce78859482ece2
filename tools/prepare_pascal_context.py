#!/usr/bin/env python
"""Makes the label maps of PASCAL-Context, 59 and 459 classes, from the public downloads.

Needed below ROOT, from VOCtrainval_03-May-2010.tar (http://host.robots.ox.ac.uk/pascal/VOC/voc2010)
and, for all but the first, https://cs.stanford.edu/~roozbeh/pascal-context:
  VOCdevkit/VOC2010/JPEGImages/*.jpg
  VOCdevkit/VOC2010/trainval_merged.json  the 59 classes, and which images are for validation
  VOCdevkit/VOC2010/trainval/*.mat        the 459 classes
Made:
  VOCdevkit/VOC2010/annotations_detectron2/pc59_val/*.png
  VOCdevkit/VOC2010/annotations_detectron2/pc459_val/*.tif
"""

from __future__ import annotations

import sys

from segmentation.data.command_line import preparation_parser, run_preparations
from segmentation.data.preparation import prepare_pascal_context_59, prepare_pascal_context_459

PREPARATIONS = {59: prepare_pascal_context_59, 459: prepare_pascal_context_459}


def main(argv: list[str] | None = None) -> int:
    parser = preparation_parser(__doc__)
    parser.add_argument(
        "--classes",
        nargs="+",
        type=int,
        choices=tuple(PREPARATIONS),
        default=tuple(PREPARATIONS),
        help="default: both",
    )
    args = parser.parse_args(argv)
    return run_preparations([PREPARATIONS[number] for number in args.classes], args)


if __name__ == "__main__":
    sys.exit(main())
