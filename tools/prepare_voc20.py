#!/usr/bin/env python
"""Makes the label maps of PASCAL VOC 2012, without and with background.

Needed below ROOT, from VOCtrainval_11-May-2012.tar (http://host.robots.ox.ac.uk/pascal/VOC/voc2012)
and, for the last, SegmentationClassAug.zip (the label maps with those of SBD, as DeepLab has them):
  VOCdevkit/VOC2012/JPEGImages/*.jpg
  VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt
  VOCdevkit/VOC2012/SegmentationClassAug/*.png
Made:
  VOCdevkit/VOC2012/annotations_detectron2/val/*.png     20 classes, background ignored
  VOCdevkit/VOC2012/annotations_detectron2_bg/val/*.png  background as class 20
"""

from __future__ import annotations

import sys

from segmentation.data.command_line import preparation_parser, run_preparations
from segmentation.data.preparation import prepare_voc20


def main(argv: list[str] | None = None) -> int:
    args = preparation_parser(__doc__).parse_args(argv)
    return run_preparations([prepare_voc20], args)


if __name__ == "__main__":
    sys.exit(main())
