"""Turns data of other programs into a data set that all commands take."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from fineclip.command_line import (
    ToolParser,
    integer_argument,
    progress_bar,
    real_number,
    report_error,
)
from fineclip.interrupts import run_command

FORMATS = ("yolo", "voc", "coco", "folders", "masks", "captions")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=(
            "Read a data set as another program has written it, check it, and write OUT/: images\n"
            "in train/, val/ and test/, annotations in COCO's format, and data.yaml, which all\n"
            "commands take by --data. Image files are copied as they are. Splits of the source\n"
            "are kept, unless train is all there is; others are drawn, and no copies of one image\n"
            "come into two of them."
        )
    )
    parser.add_argument("src", metavar="SRC", type=Path, help="folder, or main file, of the source")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    parser.add_argument(
        "--from",
        dest="form",
        choices=FORMATS,
        help="format of the source: YOLO, Pascal VOC, COCO (also of CVAT, Label Studio and "
        "Roboflow), a folder of images per class, images with masks, images with captions "
        "(default: guessed)",
    )
    parser.add_argument(
        "--split",
        nargs="+",
        type=real_number(0, above=True),
        metavar="SHARE",
        help="divide anew: shares of train, val and perhaps test (default: the source's splits, "
        "else 0.8 0.1 0.1)",
    )
    parser.add_argument(
        "--seed", type=integer_argument(0), default=0, metavar="N", help="of the division"
    )
    parser.add_argument(
        "--near-duplicates",
        type=integer_argument(0),
        default=18,
        metavar="BITS",
        help="bits of 144 that the fingerprints of copies may differ in; copies share a split",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="NAME",
        help="names of the classes in label order, or one file of them (default: the source's)",
    )
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="folder of the images (default: in SRC)"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="PATH",
        help="folder, or file, of labels, annotations, masks or captions (default: in SRC)",
    )
    parser.add_argument(
        "--class-map", type=Path, metavar="F", help="names of the folders of --from folders"
    )
    parser.add_argument(
        "--reduce-zero", action="store_true", help="value 0 of masks is no class, 1 the first one"
    )
    parser.add_argument(
        "--image-column",
        metavar="C",
        help="column of a table that names the image (default: guessed)",
    )
    parser.add_argument(
        "--caption-column", metavar="C", help="column that holds the caption (default: guessed)"
    )
    parser.add_argument(
        "--link", action="store_true", help="link image files (hard links) instead of copying them"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier import in OUT")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        if args.split is not None and len(args.split) not in (1, 2, 3):
            raise ValueError("--split: expected one to three shares, of train, val and test")
        if not args.src.exists():
            raise FileNotFoundError(f"SRC: {args.src} does not exist")
        from fineclip.importing import ImportOptions, import_data  # torch takes seconds

        options = ImportOptions(
            classes=args.classes,
            images=args.images,
            labels=args.labels,
            class_map=args.class_map,
            reduce_zero=args.reduce_zero,
            image_column=args.image_column,
            caption_column=args.caption_column,
        )
        with ExitStack() as bars:
            result = import_data(
                args.src,
                args.out,
                form=args.form,
                options=options,
                shares=args.split,
                seed=args.seed,
                near_duplicates=args.near_duplicates,
                link=args.link,
                overwrite=args.overwrite,
                progress=several_bars(bars),
            )
    except (ValueError, OSError) as error:
        return report_error(error)
    print("\n".join(result.lines()))
    return 0


def several_bars(bars: ExitStack) -> Callable[[str, int, int], None]:
    """A bar for each kind of work, the last one taken away when the next begins."""
    shown: dict[str, Callable[[int, int], None]] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in shown:
            bars.close()
            shown[what] = bars.enter_context(progress_bar(what, "image"))
        shown[what](done, total)

    return show


if __name__ == "__main__":
    sys.exit(run_command(main))
