"""What command line tools share: errors, progress, and images that are asked about names."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from fineclip.images import UnusableImageError, read_image
from fineclip.text.vocabulary import Vocabulary, as_vocabulary, check_names, load_vocabulary
from fineclip.visualization import undrawable

ERRORS_EPILOG = "Exit code 2 and one line on standard error for bad usage or bad input."


def report_error(error: Exception | str) -> int:
    """Prints what went wrong as one line on standard error.

    Returns:
        The exit code for it, 2.
    """
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Gives a function that shows (done, in all) as a bar; it starts anew when ``done`` falls.

    The bar appears only once something is done: an error, or nothing to do, needs none.
    """
    with tqdm(desc=title, unit=unit, mininterval=1, delay=0.1) as bar:

        def show(done: int, total: int) -> None:
            if done < bar.n:
                bar.reset()
            bar.total = total
            bar.update(done - bar.n)

        yield show


def positive(text: str) -> int:
    """An argument's type: an integer from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def add_images_and_names(parser: argparse.ArgumentParser) -> None:
    """Adds ``IMAGE...`` and either ``--vocabulary NAME...`` or ``--vocabulary-file F``."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files or folders of them")
    names = parser.add_mutually_exclusive_group(required=True)
    names.add_argument("--vocabulary", nargs="+", metavar="NAME", help="what to look for")
    names.add_argument(
        "--vocabulary-file",
        metavar="F",
        help="file of names (a name a line, or JSON), or the name of a built-in vocabulary",
    )


def asked_names(args: argparse.Namespace) -> Vocabulary:
    """The vocabulary of the arguments that :func:`add_images_and_names` adds.

    Letters that cannot be drawn on the machine are mentioned on standard error.

    Raises:
        ValueError: Names that make no vocabulary, or an unknown or malformed one.
        FileNotFoundError: The file does not exist.
    """
    if args.vocabulary_file is None:
        vocabulary = _spelled_out(args.vocabulary)
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


def _spelled_out(words: Sequence[str]) -> Vocabulary:
    """The vocabulary of names that were given to ``--vocabulary`` one by one."""
    option = "--vocabulary"
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


def quickstart_result(path: Path) -> Path:
    """What the quickstart has trained, for tools that are asked without weights.

    Raises:
        FileNotFoundError: It was not run yet.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: run bash tools/quickstart.sh, or name trained weights"
        )
    return path


def silence_libraries() -> None:
    """Hides warnings and log messages, which say nothing to whoever asks about a few images."""
    logging.getLogger().setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


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
