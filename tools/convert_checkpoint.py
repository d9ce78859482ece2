#!/usr/bin/env python
"""Converts CLIP, F-ViT and CAT-Seg checkpoints between formats, exactly, and reports every key.

The source's format is recognised: open_clip files (bare, under state_dict, module. prefixes,
safetensors), OpenAI's archives, EVA-CLIP naming (EVA02-CLIP, FineCLIP, CLIPSelf, RegionCLIP
releases), Hugging Face CLIPModel or SiglipModel folders or files, checkpoints of tools/train.py,
F-ViT detectors (as released for mmdet 2.x, or ours) and CAT-Seg's model_final.pth.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fineclip.command_line import ERRORS_EPILOG, ToolParser, positive, report_error
from fineclip.interrupts import run_command
from fineclip.weights import resolved

TARGETS = ("open_clip", "eva_clip", "huggingface", "fvit", "catseg")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(
        description=__doc__,
        epilog="Unknown keys and shapes that do not fit are errors that list them.\n"
        f"{ERRORS_EPILOG} Nothing is written then.",
    )
    parser.add_argument(
        "src",
        metavar="SRC",
        help="checkpoint file, the work dir of a training, or a Hugging Face folder",
    )
    parser.add_argument(
        "dst",
        metavar="DST",
        help="file to write: .safetensors, or .pt, .pth, .bin for a torch file (what EVA-CLIP, "
        "mmdet and detectron2 read); a folder for --to huggingface",
    )
    parser.add_argument(
        "--to",
        required=True,
        choices=TARGETS,
        help="fvit and catseg: a detector or segmenter is converted whole, a CLIP is put where "
        "the detector's backbone or the segmenter's CLIP has its keys",
    )
    parser.add_argument(
        "--image-size",
        type=positive,
        metavar="N",
        help="resample the absolute position table to N x N pixels (default: leave it alone)",
    )
    parser.add_argument(
        "--quick-gelu",
        action=argparse.BooleanOptionalAction,
        help="whether the weights belong to OpenAI's approximate GELU, which tensors do not tell "
        "(default: what the source says; needed for --to huggingface where it says nothing)",
    )
    parser.add_argument(
        "--published",
        action="store_true",
        help="with --to fvit: the naming of the release (mmdet 2.x) instead of ours",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out keys of the file that match, such as 'teacher.*' (may be repeated)",
    )
    parser.add_argument(
        "--mix",
        metavar="START",
        help="mix the CLIP with these start weights, in any format (WiSE-FT; needs --alpha)",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        metavar="A",
        help="share of SRC in the mix, from 0 to 1: A x SRC + (1 - A) x START",
    )
    parser.add_argument(
        "--allow-nonfinite",
        action="store_true",
        help="take weights with NaN or infinite values (default: refuse them)",
    )
    parser.add_argument("--dry-run", action="store_true", help="report, write nothing")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        if not Path(args.src).exists():
            raise FileNotFoundError(f"{args.src} does not exist")
        from fineclip.checkpoints import convert  # torch takes seconds

        report = convert(
            resolved(args.src),
            args.dst,
            to=args.to,
            image_size=args.image_size,
            quick_gelu=args.quick_gelu,
            published=args.published,
            ignore=args.ignore,
            mix=args.mix,
            alpha=args.alpha,
            allow_nonfinite=args.allow_nonfinite,
            dry_run=args.dry_run,
        )
    except (ValueError, OSError) as error:
        return report_error(error)
    print(report)
    print("dry run: nothing written" if args.dry_run else f"wrote {args.dst}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
