"""Makes region-text data of captioned images: boxes, their captions, shards to train on."""

from __future__ import annotations

import argparse
import functools
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fineclip.command_line import ToolParser, positive, report_error
from fineclip.command_line.options import add_cfg_options, add_config
from fineclip.interrupts import run_command

if TYPE_CHECKING:
    from fineclip.annotation.run import AnnotationOutcome, Inputs
    from fineclip.annotation.settings import AnnotationSettings


def shard_range(text: str) -> tuple[int, int]:
    """An argument's type: ``A:B``."""
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if not found or int(found[1]) >= int(found[2]):
        raise argparse.ArgumentTypeError(f"expected A:B with A below B, got {text!r}")
    return int(found[1]), int(found[2])


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=(
            "Write shards to OUT that `tools/train.py --cfg-options shards=OUT` trains on: images "
            "of SRC with their captions, boxes of a proposer and captions of the boxes. A run that "
            "was interrupted goes on when it is called again. OUT/manifest.json says what was "
            "used, and counts what was left out by reason."
        )
    )
    parser.add_argument(
        "source",
        metavar="SRC",
        type=Path,
        help="folder of images or of WebDataset shards (as img2dataset writes them), or one .tar",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    parser.add_argument(
        "--captions",
        type=Path,
        metavar="F",
        help="captions by file name: CSV, TSV, JSON Lines, or COCO captions (default: files "
        "NAME.txt beside the images)",
    )
    parser.add_argument(
        "--annotations", type=Path, metavar="JSON", help="COCO instances or proposals"
    )
    parser.add_argument(
        "--region-captions", type=Path, metavar="JSON", help="captions of the boxes of these"
    )
    parser.add_argument(
        "--proposer",
        metavar="P",
        help="where boxes are from: existing, hf:NAME, mmdet:CONFIG,WEIGHTS, torchvision:NAME, "
        "ultralytics:NAME, sam:NAME, fvit:WEIGHTS or opencv:PB,PBTXT (default: existing)",
    )
    parser.add_argument(
        "--captioner",
        metavar="C",
        help="where captions of boxes are from: template, existing, hf:NAME or openai:URL,MODEL "
        "(default: template)",
    )
    add_config(parser, "settings, such as configs/annotation/cc2.5m.py (default: none)")
    add_cfg_options(parser, "settings beside the config's: min_score=0.3, max_boxes=20, ...")
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="local: one process; ray: a Ray Data job of many",
    )
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="processes of --engine ray (default: one per GPU, else per processor)",
    )
    parser.add_argument(
        "--shard-range",
        type=shard_range,
        metavar="A:B",
        help="do shards A to B - 1 of the input alone, as one of an array of jobs; whichever "
        "finishes last completes OUT (default: all)",
    )
    parser.add_argument(
        "--first-pass",
        action="store_true",
        help="read and filter images alone, without models; worth it before an array of jobs",
    )
    parser.add_argument(
        "--dry-run",
        type=positive,
        metavar="N",
        help="try N images and say what all would take; OUT is not written (default: no)",
    )
    parser.add_argument(
        "--coco",
        action="store_true",
        help="also write proposals.json, region_captions.json and captions.json",
    )
    parser.add_argument("--overwrite", action="store_true", help="begin anew whatever OUT holds")
    return parser.parse_args(argv)


def settings_of(args: argparse.Namespace) -> AnnotationSettings:
    from fineclip.annotation.settings import AnnotationSettings  # --help needs no libraries

    values: dict[str, Any] = {}
    if args.config is not None:
        from fineclip.configuration.reading import read_config  # mmengine takes half a second

        values = read_config(args.config).to_dict()
    values |= args.cfg_options
    values |= {k: v for k in ("proposer", "captioner") if (v := getattr(args, k)) is not None}
    return AnnotationSettings.of(values)


def run(
    args: argparse.Namespace, inputs: Inputs, settings: AnnotationSettings
) -> AnnotationOutcome:
    from fineclip.annotation.engines import LocalEngine  # torch takes seconds
    from fineclip.annotation.ray_engine import RayEngine  # the same
    from fineclip.annotation.run import annotate_regions  # the same

    engine = functools.partial(RayEngine, args.workers) if args.engine == "ray" else LocalEngine
    return annotate_regions(
        inputs,
        args.out,
        settings,
        engine=engine,
        shard_range=args.shard_range,
        coco=args.coco,
        overwrite=args.overwrite,
        first_pass_only=args.first_pass,
    )


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        if args.workers is not None and args.engine != "ray":
            raise ValueError("--workers is for --engine ray; the local engine is one process")
        settings = settings_of(args)
        from fineclip.annotation.run import Inputs  # torch takes seconds

        inputs = Inputs(args.source, args.captions, args.annotations, args.region_captions)
        if args.dry_run:
            from fineclip.annotation.dry_run import estimate  # the same

            print("\n".join(estimate(inputs, settings, args.dry_run).lines()))
            return 0
        from fineclip.annotation.report import outcome_lines  # the same

        print("\n".join(outcome_lines(run(args, inputs, settings), args.out)))
    except (ValueError, OSError, ImportError) as error:
        return report_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
