"""What tools that answer pictures with names have in common."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from fineclip.datasets.files import UnusableImageError, open_image


def add_images_and_names(parser: argparse.ArgumentParser) -> None:
    """Adds ``IMAGE...`` and either ``--vocabulary NAME...`` or ``--vocabulary-file F``."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files or folders of them")
    names = parser.add_mutually_exclusive_group(required=True)
    names.add_argument("--vocabulary", nargs="+", metavar="NAME", help="what to look for")
    names.add_argument(
        "--vocabulary-file", metavar="F", help="JSON vocabulary, or the name of a built-in one"
    )


def readable_images(
    files: Sequence[Path], unusable: list[UnusableImageError]
) -> Iterator[tuple[int, Path, Image.Image]]:
    """Opens images one after the other, with a progress bar for several.

    Args:
        files: The image files.
        unusable: Receives what is wrong with those that cannot be decoded, which are left out.

    Yields:
        The file's number, counted from 1, the file and the image in RGB.
    """
    for number, file in enumerate(tqdm(files, unit="image", disable=len(files) == 1), 1):
        try:
            image = open_image(file)
        except UnusableImageError as error:
            unusable.append(error)
            continue
        yield number, file, image
