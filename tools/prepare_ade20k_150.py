#!/usr/bin/env python
"""Makes the label maps of ADE20K-150 from the public download.

Needed below ROOT, from ADEChallengeData2016.zip (http://sceneparsing.csail.mit.edu):
  ADEChallengeData2016/images/validation/*.jpg
  ADEChallengeData2016/annotations/validation/*.png
Made:
  ADEChallengeData2016/annotations_detectron2/validation/*.png
"""

from __future__ import annotations

import sys

from segmentation.data.command_line import preparation_parser, run_preparations
from segmentation.data.preparation import prepare_ade20k_150


def main(argv: list[str] | None = None) -> int:
    args = preparation_parser(__doc__).parse_args(argv)
    return run_preparations([prepare_ade20k_150], args)


if __name__ == "__main__":
    sys.exit(main())
