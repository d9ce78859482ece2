#!/usr/bin/env python
"""Makes annotations and label maps of the benchmarks from their public downloads.

The --help of a task says which files belong where.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fineclip.command_line import ERRORS_EPILOG, ToolParser, positive, progress_bar, report_error
from fineclip.interrupts import run_command

COCO_STUFF = """Label maps of COCO-Stuff, 171 classes.

Needed below ROOT, from stuffthingmaps_trainval2017.zip (https://github.com/nightrome/cocostuff)
and, for the images, COCO's train2017.zip and val2017.zip (https://cocodataset.org):
  coco-stuff/images/{train2017,val2017}/*.jpg
  coco-stuff/annotations/{train2017,val2017}/*.png  (as it is unpacked, also below stuffthingmaps/;
                                                     --source DIR: any DIR/{train2017,val2017}/)
Made:
  coco-stuff/annotations_detectron2/{train2017,val2017}/*.png
"""

ADE20K_150 = """Label maps of ADE20K-150.

Needed below ROOT, from ADEChallengeData2016.zip (http://sceneparsing.csail.mit.edu):
  ADEChallengeData2016/images/validation/*.jpg
  ADEChallengeData2016/annotations/validation/*.png
Made:
  ADEChallengeData2016/annotations_detectron2/validation/*.png
"""

ADE20K_847 = """Images and label maps of ADE20K-847.

Needed below ROOT, on request from https://groups.csail.mit.edu/vision/datasets/ADE20K:
  ADE20K_2021_17_01/images/ADE/validation/**/NAME.jpg and NAME_seg.png
Made, with the shorter side at most 512 pixels:
  ADE20K_2021_17_01/images_detectron2/validation/NAME.jpg
  ADE20K_2021_17_01/annotations_detectron2/validation/NAME.tif
"""

PASCAL_CONTEXT = """Label maps of PASCAL-Context, 59 and 459 classes.

Needed below ROOT, from VOCtrainval_03-May-2010.tar (http://host.robots.ox.ac.uk/pascal/VOC/voc2010)
and, for all but the first, https://cs.stanford.edu/~roozbeh/pascal-context:
  VOCdevkit/VOC2010/JPEGImages/*.jpg
  VOCdevkit/VOC2010/trainval_merged.json  the 59 classes, and which images are for validation
  VOCdevkit/VOC2010/trainval/*.mat        the 459 classes
Made:
  VOCdevkit/VOC2010/annotations_detectron2/pc59_val/*.png
  VOCdevkit/VOC2010/annotations_detectron2/pc459_val/*.tif
"""

VOC20 = """Label maps of PASCAL VOC 2012, without and with background.

Needed below ROOT, from VOCtrainval_11-May-2012.tar (http://host.robots.ox.ac.uk/pascal/VOC/voc2012)
and, for the last, SegmentationClassAug.zip (the label maps with those of SBD, as DeepLab has them;
VOC's own SegmentationClass/ has the same ones of validation images, and is taken without it):
  VOCdevkit/VOC2012/JPEGImages/*.jpg
  VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt
  VOCdevkit/VOC2012/SegmentationClassAug/*.png
Made:
  VOCdevkit/VOC2012/annotations_detectron2/val/*.png     20 classes, background ignored
  VOCdevkit/VOC2012/annotations_detectron2_bg/val/*.png  background as class 20
"""

OV_COCO = """Annotation files of OV-COCO (48 base, 17 novel classes) from COCO 2017's instances.

Training keeps base boxes and the images that have one; validation keeps the boxes of all 65.
"""

OV_LVIS = """Training annotations of OV-LVIS (rare classes are novel) from LVIS v1's.

No box of a rare category is left; validation uses lvis_v1_val.json as it is.
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    ov_coco = add_annotations(tasks, "ov-coco", OV_COCO, "instances_{train,val}2017.json")
    ov_coco.add_argument(
        "--splits", nargs="+", choices=("train", "val"), help="only these (default: both)"
    )
    add_annotations(tasks, "ov-lvis", OV_LVIS, "lvis_v1_train.json")
    coco_stuff = add_label_maps(tasks, "coco-stuff", COCO_STUFF)
    coco_stuff.add_argument(
        "--splits", nargs="+", choices=("train2017", "val2017"), help="only these (default: both)"
    )
    add_label_maps(tasks, "ade20k-150", ADE20K_150)
    add_label_maps(tasks, "ade20k-847", ADE20K_847)
    context = add_label_maps(tasks, "pascal-context", PASCAL_CONTEXT)
    context.add_argument(
        "--classes", nargs="+", type=int, choices=(59, 459), help="only these (default: both)"
    )
    add_label_maps(tasks, "voc20", VOC20)
    return parser.parse_args(argv)


def add_annotations(
    tasks: argparse._SubParsersAction, name: str, text: str, needed: str
) -> argparse.ArgumentParser:
    """Adds a task whose source and target are folders of annotation files."""
    parser = add_task(tasks, name, text, ERRORS_EPILOG)
    parser.add_argument(
        "annotations_dir", metavar="ANNOTATIONS_DIR", type=Path, help=f"folder with {needed}"
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write to")
    parser.set_defaults(run=prepare_annotations)
    return parser


def add_label_maps(
    tasks: argparse._SubParsersAction, name: str, text: str
) -> argparse.ArgumentParser:
    """Adds a task below the folder of data sets."""
    kept = "What is there already is kept, so an interrupted run goes on where it stopped."
    parser = add_task(tasks, name, text, f"{kept}\n{ERRORS_EPILOG}")
    parser.add_argument(
        "--data-root",
        "--root",
        type=Path,
        metavar="ROOT",
        help="folder of data sets (default: $DETECTRON2_DATASETS, or datasets)",
    )
    parser.add_argument(
        "--source", metavar="DIR", type=Path, help="folder of what is needed (default: in ROOT)"
    )
    parser.add_argument("--workers", metavar="N", type=positive, default=1, help="processes")
    parser.set_defaults(run=prepare_label_maps)
    return parser


def add_task(
    tasks: argparse._SubParsersAction, name: str, text: str, epilog: str
) -> argparse.ArgumentParser:
    return tasks.add_parser(
        name,
        help=text.split(".\n")[0],
        description=text,
        epilog=epilog,
    )


def prepare_annotations(args: argparse.Namespace) -> None:
    from detection.datasets.preparation import PREPARATIONS  # mmdet takes 10 s: not for --help

    PREPARATIONS[args.task](args.annotations_dir, args.out, **parts(args), report=print_now)


def prepare_label_maps(args: argparse.Namespace) -> None:
    from fineclip.datasets.segmentation_benchmarks import default_root  # torch: not for --help
    from segmentation.data.preparation import PREPARATIONS  # detectron2, too

    prepare = PREPARATIONS[args.task]
    root = args.data_root or default_root()
    with progress_bar("label maps", "file") as progress:
        folders = prepare(root, workers=args.workers, progress=progress, **parts(args))
    for folder in folders:
        print_now(str(folder))


def parts(args: argparse.Namespace) -> dict[str, Any]:
    """Which parts of the task are asked for; none: all."""
    chosen = {name: getattr(args, name, None) for name in ("splits", "classes", "source")}
    return {name: value for name, value in chosen.items() if value}


def print_now(line: str) -> None:
    print(line, flush=True)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        args.run(args)
    except (ValueError, OSError) as error:
        return report_error(error)
    except ModuleNotFoundError as error:  # of an environment made with --minimal
        return report_error(f"{error}: {args.task} needs what bash tools/setup_env.sh installs")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
