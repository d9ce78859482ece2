"""Images that are asked about names: what the command line says of both."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from fineclip.command_line.reporting import report_error
from fineclip.images import IMAGE_SUFFIXES, UnusableImageError, read_image
from fineclip.progress import track
from fineclip.text.vocabulary import Vocabulary, as_vocabulary, check_names, load_vocabulary
from fineclip.visualization import undrawable


def asked_images(args: argparse.Namespace, option: str = "--vocabulary") -> list[Path]:
    """The images of the arguments that ``add_images_and_names`` adds, taken from its names, too.

    Args:
        args: ``vocabulary`` loses the words that are images.
        option: What the tool calls ``vocabulary``, for messages.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: No images, or a folder without any.
    """
    words = args.vocabulary or []
    among = [word for word in words if _means_images(word)]
    if among:
        args.vocabulary = [word for word in words if word not in among]
        if not args.vocabulary:
            raise ValueError(f"{option}: {' '.join(among)}: images alone, without a name")
    if not (paths := [*args.images, *among]):
        raise ValueError("no images: name files or folders (IMAGE), before the options or after --")
    return list_images(paths)


def _means_images(word: str) -> bool:
    """Whether a word of ``--vocabulary`` is no name but a file of images or a folder."""
    return Path(word).suffix.lower() in IMAGE_SUFFIXES or ("/" in word and Path(word).is_dir())


def list_images(paths: Sequence[str | Path]) -> list[Path]:
    """Image files, those of folders in alphabetical order.

    Args:
        paths: Files of any name, and folders, of which those with
            :data:`fineclip.images.IMAGE_SUFFIXES` count.

    Raises:
        FileNotFoundError: A path does not exist.
        ValueError: A folder without images.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise ValueError(
                    f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))} are looked for)"
                )
            files.extend(inside)
        elif path.exists():
            files.append(path)
        else:
            raise FileNotFoundError(f"{path} does not exist")
    return files


def asked_names(args: argparse.Namespace, option: str = "--vocabulary") -> Vocabulary:
    """The vocabulary of the arguments that ``add_images_and_names`` adds.

    Letters that cannot be drawn on the machine are mentioned on standard error.

    Args:
        args: The arguments.
        option: What the tool calls ``vocabulary``, for messages.

    Raises:
        ValueError: Names that make no vocabulary, or an unknown or malformed one.
        FileNotFoundError: The file does not exist.
    """
    if args.vocabulary_file is None:
        vocabulary = _spelled_out(args.vocabulary, option)
    else:
        vocabulary = _load_named(args.vocabulary_file)
    if names := undrawable(vocabulary.names):
        print(
            f"note: no font on this machine has all letters of {len(names)} names, such as "
            f"{names[0]!r}; pictures show their codes. A Noto font of the script would do.",
            file=sys.stderr,
        )
    return vocabulary


def candidate_classes(words: Sequence[str]) -> Vocabulary:
    """The vocabulary of a ``--vocabulary`` that takes a built-in one, a file, or several names.

    Raises:
        ValueError: Names that make no vocabulary, or an unknown or malformed one.
        FileNotFoundError: The file does not exist.
    """
    return load_vocabulary(words[0]) if len(words) == 1 else _spelled_out(words)


def _load_named(file: str) -> Vocabulary:
    """The vocabulary of ``--vocabulary-file``."""
    try:
        return load_vocabulary(file)
    except ValueError as error:
        if Path(file).exists():
            raise
        raise ValueError(f"{error}; to look for {file!r} itself: --vocabulary {file!r}") from None


def _spelled_out(words: Sequence[str], option: str = "--vocabulary") -> Vocabulary:
    """The vocabulary of names that were given to an option one by one."""
    check_names(words, option, [f"name {number}" for number in range(1, len(words) + 1)])
    if len(words) == 1:
        (word,) = words
        if Path(word).suffix and Path(word).is_file():
            raise ValueError(f"{option}: {word} is a file; write --vocabulary-file {word}")
    if any(word.strip().endswith(",") for word in words) or (len(words) == 1 and "," in words[0]):
        parts = [part.strip() for word in words for part in word.split(",") if part.strip()]
        apart = " ".join(map(repr, parts))
        raise ValueError(f"{option}: names stand apart, without commas: {option} {apart}")
    return as_vocabulary(list(words), option)


def readable_images(
    files: Sequence[Path], unusable: list[UnusableImageError]
) -> Iterator[tuple[int, Path, Image.Image]]:
    """Opens images one after the other, and shows the progress of several.

    Args:
        files: The image files.
        unusable: Receives what is wrong with those that cannot be decoded, which are left out.

    Yields:
        The file's number, counted from 1, the file and the image in RGB.
    """
    for number, file in enumerate(track(files, "images", "image", disable=len(files) == 1), 1):
        try:
            image = read_image(file)
        except UnusableImageError as error:
            unusable.append(error)
            continue
        yield number, file, image


def report_unusable(unusable: Iterable[UnusableImageError]) -> int:
    """Prints a line on standard error for each image that was left out.

    Returns:
        The exit code: 0 if there was none, otherwise 2.
    """
    return max((report_error(error) for error in unusable), default=0)
