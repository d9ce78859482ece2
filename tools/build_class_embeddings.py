#!/usr/bin/env python
"""Embeds the classes of a vocabulary with the text tower of any CLIP and writes one file.

Prompts are filled into templates, each embedding is normalised, averaged over the prompts of a
class and normalised again. The result is cached by content: model, weights and prompts.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fineclip.command_line import (
    ERRORS_EPILOG,
    ToolParser,
    add_device,
    add_weights,
    positive,
    progress_bar,
    report_error,
)
from fineclip.configuration.model_names import check_model_name
from fineclip.interrupts import run_command
from fineclip.text.templates import TEMPLATES
from fineclip.text.vocabulary import known_vocabularies, load_vocabulary
from fineclip.weights import check_weights

BACKGROUND, SUFFIX, CACHE_VARIABLE = "background", ".safetensors", "FINECLIP_CACHE_DIR"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__, epilog=f"{ERRORS_EPILOG} Nothing is written then.")
    parser.add_argument(
        "vocabulary",
        metavar="VOCABULARY",
        help=f"one of {', '.join(known_vocabularies())}; or a file: text with a name a line; "
        "or JSON, a list of names, an object {name: null, id or list of synonyms} or with "
        "'categories', or COCO annotations",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help=f"file to write, {SUFFIX}")
    parser.add_argument("--model", required=True, metavar="M", help="a model name open_clip knows")
    add_weights(parser, "open_clip tag, a checkpoint, or the work dir of a training", required=True)
    parser.add_argument(
        "--templates",
        nargs="+",
        default=["vild"],
        metavar="T",
        help=f"one of {', '.join(TEMPLATES)}; or strings with {{}} where the name goes and, if "
        "wanted, {article}; vild: the 63 templates of F-ViT, CLIPSelf and FineCLIP",
    )
    parser.add_argument(
        "--background",
        nargs="?",
        const=BACKGROUND,
        metavar="WORD",
        help=f"add a last row for a word that means no class, plain --background: {BACKGROUND} "
        "(default: none)",
    )
    parser.add_argument(
        "--synonyms", action="store_true", help="average over all names of a class, not the first"
    )
    parser.add_argument("--batch-size", type=positive, default=256, metavar="N", help="prompts")
    add_device(parser)
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--cache-dir",
        type=Path,
        metavar="D",
        help="where results are kept (default: class_embeddings below the folder that "
        f"{CACHE_VARIABLE} names, else below the user's cache folder)",
    )
    group.add_argument("--no-cache", action="store_true", help="neither read nor fill the cache")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        check_model_name(args.model, "--model")
        check_weights(args.weights)
        if Path(args.vocabulary).suffix == SUFFIX:
            raise ValueError(f"VOCABULARY: {args.vocabulary} holds class embeddings already")
        load_vocabulary(args.vocabulary)
        from fineclip.devices import usable_device  # torch takes seconds

        device = usable_device(args.device)
        from fineclip.models import resolve_class_embeddings, write_class_embeddings  # the same
        from fineclip.models.class_embedding_files import check_class_embeddings_target  # the same

        check_class_embeddings_target(args.out)
        with progress_bar("prompts", "prompt") as progress:
            result = resolve_class_embeddings(
                args.vocabulary,
                args.model,
                args.weights,
                args.templates[0] if len(args.templates) == 1 else args.templates,
                background=args.background,
                synonyms=args.synonyms,
                cache_dir=args.cache_dir,
                cache=not args.no_cache,
                batch_size=args.batch_size,
                device=device,
                progress=progress,
            )
        write_class_embeddings(args.out, result)
    # torch's answer to an unusable device is a RuntimeError, or an AssertionError.
    except (ValueError, OSError, RuntimeError, AssertionError) as error:
        return report_error(error)
    rows, width = result.embeddings.shape
    background = f", the last for {result.background!r}" if result.background else ""
    print(f"wrote {args.out}: {rows} embeddings of width {width}{background}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
