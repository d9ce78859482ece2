#!/usr/bin/env python
"""Makes the images and label maps of ADE20K-847 from the public download.

Needed below ROOT, on request from https://groups.csail.mit.edu/vision/datasets/ADE20K:
  ADE20K_2021_17_01/images/ADE/validation/**/NAME.jpg and NAME_seg.png
Made, with the shorter side at most 512 pixels:
  ADE20K_2021_17_01/images_detectron2/validation/NAME.jpg
  ADE20K_2021_17_01/annotations_detectron2/validation/NAME.tif
"""

from __future__ import annotations

import sys

from segmentation.data.command_line import preparation_parser, run_preparations
from segmentation.data.preparation import prepare_ade20k_847


def main(argv: list[str] | None = None) -> int:
    args = preparation_parser(__doc__).parse_args(argv)
    return run_preparations([prepare_ade20k_847], args)


if __name__ == "__main__":
    sys.exit(main())
