#!/usr/bin/env python
r"""Shows what a CLIP sees in photographs: words of the whole, of regions, of every place, and why.

python tools/look.py photos/ --words cat "a red umbrella" grass --model EVA02-B-16 \
      --weights merged2b_s8b_b131k --out looks/

python tools/look.py --data my/data.yaml --weights work_dirs/my

The second looks at images of a data set, for its classes in its boxes. Without --words it is the
likeliest of a vocabulary. Without --weights it is the quickstart's FineCLIP, which knows the
built-in scenes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fineclip.command_line import (
    ToolParser,
    add_data,
    add_device,
    add_trained_clip,
    positive,
    progress_bar,
    real_number,
    report_error,
    silence_libraries,
)
from fineclip.configuration.model_names import check_model_name
from fineclip.interrupts import run_command
from fineclip.text.templates import TEMPLATES
from fineclip.text.vocabulary import known_vocabularies
from fineclip.weights import check_weights, quickstart_result, resolved, weights_file

if TYPE_CHECKING:
    from fineclip.looking import Looker, Proposer
    from fineclip.text import Vocabulary

QUICKSTART = Path("work_dirs/quickstart/seed0/fineclip")
VOCABULARY, SCENES = "coco", "scenes"
SHOWN, GRID = 8, 3
NO_RELEVANCE = "note: no relevance maps, which are read from attention: this image tower has none"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    parser.add_argument(
        "images",
        nargs="*",
        metavar="PHOTO",
        help="image files or folders of them; they may stand before the options, after -- or among "
        "the words, where files of images and folders written with a slash are taken for photos",
    )
    add_data(
        parser,
        f"the first {SHOWN} images of its evaluation split, unless others are named; words are its "
        "classes, regions its boxes, unless options say other ones",
    )
    words = parser.add_mutually_exclusive_group()
    words.add_argument(
        "--words", nargs="+", dest="vocabulary", metavar="W", help="what to look for"
    )
    words.add_argument(
        "--vocabulary-file",
        metavar="F",
        help="without --words: a file of names, or one of " + ", ".join(known_vocabularies()) + " "
        f"(default: {VOCABULARY}, or {SCENES} for the quickstart's model)",
    )
    add_trained_clip(parser, QUICKSTART)
    regions = parser.add_mutually_exclusive_group()
    regions.add_argument(
        "--grid",
        type=positive,
        metavar="N",
        help=f"regions are the cells of N rows and N columns (default: {GRID})",
    )
    regions.add_argument(
        "--boxes",
        type=Path,
        metavar="JSON",
        help="regions are boxes of a file: COCO annotations, detections.json of tools/detect.py, "
        'or {"photo.jpg": [[x, y, width, height], ...]} (default: none)',
    )
    regions.add_argument(
        "--detector",
        type=Path,
        metavar="W",
        help="regions are what this F-ViT detects of the words: trained weights, or the work dir "
        "of their training (default: none)",
    )
    parser.add_argument(
        "--score-threshold",
        type=real_number(0, 1),
        default=0.2,
        metavar="S",
        help="detections that are less certain are no regions",
    )
    parser.add_argument(
        "--top", type=positive, default=5, metavar="N", help="words that are drawn, best first"
    )
    parser.add_argument(
        "--no-relevance",
        action="store_true",
        help="no relevance maps, each of which costs a pass forward and one back",
    )
    parser.add_argument(
        "--templates",
        default="photo",
        metavar="T",
        help=f"prompts: {', '.join(TEMPLATES)}, or a string with {{}} for the word",
    )
    parser.add_argument(
        "--image-size",
        type=positive,
        metavar="N",
        help="side of the network input in pixels (default: the model's own)",
    )
    parser.add_argument(
        "--keep-aspect",
        action="store_true",
        help="an input near the photo's aspect ratio, for as many patches, not squashed",
    )
    add_device(parser)
    parser.add_argument(
        "--amp", choices=("bf16", "fp16"), help="mixed precision (default: float32)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("looks"),
        metavar="DIR",
        help="where a picture and a JSON file of each photo go",
    )
    return parser.parse_args(argv)


def load_proposer(args: argparse.Namespace, files: list[Path], words: Vocabulary) -> Proposer:
    from fineclip.looking import boxes_of_file, cells_of_grid  # torch: not for --help

    if args.boxes is not None:
        return boxes_of_file(args.boxes, files)
    if args.detector is None:
        return cells_of_grid(args.grid or GRID)
    from detection.inference import load_detector, proposer_of  # mmdet takes 10 s
    from fineclip.devices import autocast_type, usable_device  # torch takes seconds

    device = usable_device(args.device)
    amp = autocast_type(args.amp, device)
    detector = load_detector(args.detector, words, device=device, amp=amp)
    return proposer_of(detector, args.score_threshold)


def take_described(args: argparse.Namespace) -> None:
    """Fills in what a description says of photographs, words and regions."""
    from fineclip.command_line.described import described_images  # torch: not for --help
    from fineclip.datasets.description import read_description  # the same

    description = read_description(args.data)
    files = description.require(description.evaluation_split)
    if not args.images:
        args.images = described_images(files, SHOWN)
    if args.vocabulary is None and args.vocabulary_file is None:
        args.vocabulary_file = str(description.file)
    if args.grid is args.boxes is args.detector is None:
        args.boxes = files.annotations


def load_looker(args: argparse.Namespace, weights: str, vocabulary: Vocabulary) -> Looker:
    from fineclip.devices import autocast_type, usable_device  # torch takes seconds
    from fineclip.looking import Looker, load_trained_clip  # the same
    from fineclip.models import resolve_class_embeddings  # the same

    device = usable_device(args.device)
    autocast_type(args.amp, device)  # which says what a device cannot do
    model, clip = load_trained_clip(args.model, weights, device)
    with progress_bar("prompts", "prompt") as progress:
        embeddings = resolve_class_embeddings(
            vocabulary, model, weights, args.templates, clip=clip, progress=progress
        ).embeddings
    return Looker(clip, vocabulary.names, embeddings, args.image_size, args.keep_aspect, args.amp)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    silence_libraries()
    from fineclip.command_line import images as asked  # NumPy and Pillow: not for --help

    unusable: list[asked.UnusableImageError] = []
    try:
        if args.model:
            check_model_name(args.model, "--model")
        check_weights(args.weights)
        if args.data is not None:
            take_described(args)
        files = asked.asked_images(args, "--words")
        if args.vocabulary is None and args.vocabulary_file is None:
            args.vocabulary_file = VOCABULARY if args.weights else SCENES
        vocabulary = asked.asked_names(args, "--words")
        weights = resolved(args.weights or weights_file(quickstart_result(QUICKSTART)))
        proposer = load_proposer(args, files, vocabulary)
        looker = load_looker(args, weights, vocabulary)
        from fineclip.looking import look_at_photographs  # torch: not for --help

        if not (args.no_relevance or looker.explains):
            print(NO_RELEVANCE, file=sys.stderr)
        images = asked.readable_images(files, unusable)
        lines = [
            f"{file}: {answer.said(args.top)}"
            for file, answer in look_at_photographs(
                looker, images, proposer, args.out, args.top, not args.no_relevance
            )
        ]
    except (ValueError, OSError) as error:
        return report_error(error)
    print("\n".join([*lines, f"{len(lines)} photographs looked at: {args.out}"]))
    return asked.report_unusable(unusable)


if __name__ == "__main__":
    sys.exit(run_command(main))
