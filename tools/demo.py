#!/usr/bin/env python
r"""A web page that shows what a CLIP sees in photographs, with tabs for its views.

python tools/demo.py --model EVA02-B-16 --weights merged2b_s8b_b131k \
      --detector work_dirs/ov-coco_eva02-b-16 --segmenter work_dirs/coco-stuff_vit-b-16

Then open http://127.0.0.1:7860, drop a photograph and type words. Ctrl-C ends it. Without --weights
it is the quickstart's FineCLIP, which knows the built-in scenes. It needs pip install -e '.[demo]'.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fineclip.command_line import (
    ToolParser,
    add_device,
    add_trained_clip,
    integer_argument,
    report_error,
    silence_libraries,
)
from fineclip.configuration.model_names import check_model_name
from fineclip.demo.serving import address_of, expected_hosts, listening_socket, make_server
from fineclip.interrupts import run_command
from fineclip.weights import (
    check_weights,
    config_beside,
    quickstart_result,
    resolved,
    weights_file,
)

if TYPE_CHECKING:
    from fineclip.demo.views import PageViews

QUICKSTART = Path("work_dirs/quickstart/seed0/fineclip")
MISSING = "the page needs Gradio, which is not installed: pip install -e '.[demo]'"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = ToolParser(description=__doc__)
    add_trained_clip(parser, QUICKSTART)
    parser.add_argument(
        "--detector",
        metavar="W",
        help="trained F-ViT for the tab Detect: weights, or the work dir of their training",
    )
    parser.add_argument(
        "--segmenter",
        metavar="W",
        help="trained CAT-Seg for the tab Segment: weights, or the work dir of their training",
    )
    add_device(parser)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="H",
        help="address to be reached at; 0.0.0.0: from other machines, too, by anybody who can "
        "reach this one",
    )
    parser.add_argument(
        "--port", type=integer_argument(0), default=7860, metavar="N", help="0: any that is free"
    )
    return parser.parse_args(argv)


def load_views(args: argparse.Namespace, weights: str) -> tuple[PageViews, str]:
    """The views, and a line that says which models are behind them."""
    from fineclip.demo.views import PageViews  # torch takes seconds
    from fineclip.devices import usable_device  # the same
    from fineclip.looking import load_trained_clip  # the same
    from fineclip.models.class_embeddings import text_cache  # the same

    device = usable_device(args.device)
    # First, as its name may be missing: the others take ten seconds each.
    model, clip = load_trained_clip(args.model, weights, device)
    detect = args.detector and load_detect(args.detector, device)
    segment = args.segmenter and load_segment(args.segmenter, device)
    views = PageViews(clip, detect=detect, segment=segment, cache=text_cache(model, weights))
    return views, f"{model}, {weights}, on {device}"


def load_detect(weights: str, device: Any) -> Any:
    from detection.inference import WordDetector  # mmdet takes 10 s

    detector = WordDetector(weights, device)
    return lambda image, words, settings: detector.draw(image, words, settings.score)


def load_segment(weights: str, device: Any) -> Any:
    from segmentation import inference  # detectron2 takes 10 s

    file = weights_file(weights)
    segmenter = inference.load_segmenter(file, config_file=config_beside(file), device=device)

    def draw(image: Any, words: Any, settings: Any) -> Any:
        options = inference.OverlayOptions(settings.opacity, settings.none_below)
        return inference.draw_segments(segmenter, image, words, options)

    return draw


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    silence_libraries()
    if find_spec("gradio") is None:
        return report_error(MISSING)
    try:
        if args.model:
            check_model_name(args.model, "--model")
        check_weights(args.weights)
        check_weights(args.detector, "--detector")
        check_weights(args.segmenter, "--segmenter")
        weights = resolved(args.weights or weights_file(quickstart_result(QUICKSTART)))
        listening = listening_socket(args.host, args.port)
        views, headline = load_views(args, weights)
    except (ValueError, OSError) as error:
        return report_error(error)
    from fineclip.demo.page import application  # torch: not for mistakes

    with listening, tempfile.TemporaryDirectory(prefix="fineclip-page-") as folder:
        app = application(views, headline, Path(folder), expected_hosts(args.host))
        print(f"{headline}: {address_of(listening)} (Ctrl-C ends it)", flush=True)
        make_server(app).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
