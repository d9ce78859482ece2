"""Images that are asked about names: what the command line says of both."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from glob import glob
from pathlib import Path

from PIL import Image

from fineclip.command_line.reporting import report_error
from fineclip.images import IMAGE_SUFFIXES, UnusableImageError, read_image
from fineclip.progress import track
from fineclip.text.exemplars import Exemplar, checked_box
from fineclip.text.templates import prompt_name
from fineclip.text.vocabulary import (
    Category,
    Vocabulary,
    as_vocabulary,
    check_names,
    load_vocabulary,
)
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
    """The vocabulary of what ``add_images_and_names`` and ``add_exemplars`` add.

    Letters that cannot be drawn on the machine are mentioned on standard error.

    Args:
        args: The arguments.
        option: What the tool calls ``vocabulary``, for messages.

    Raises:
        ValueError: No names, names that make no vocabulary, an unknown or malformed one, or
            pictures that cannot be used.
        FileNotFoundError: A file does not exist.
    """
    exemplars = asked_exemplars(getattr(args, "exemplar", ()))
    if args.vocabulary_file is not None:
        words = _load_named(args.vocabulary_file)
    elif args.vocabulary:
        words = _spelled_out(args.vocabulary, option)
    elif exemplars:
        words = None
    else:
        raise ValueError(
            f"name what to look for: {option} NAME..., --vocabulary-file F or --exemplar NAME=FILES"
        )
    vocabulary = with_exemplars(words, exemplars)
    for category in vocabulary.categories:
        for exemplar in category.exemplars:
            exemplar.picture()  # now, not once models are loaded
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
    vocabulary = load_vocabulary(words[0]) if len(words) == 1 else _spelled_out(words)
    if vocabulary.has_exemplars:
        raise ValueError(
            f"{words[0]}: exemplars are for detect.py, segment.py and look.py; leave them out here"
        )
    return vocabulary


def asked_exemplars(options: Iterable[str]) -> dict[str, tuple[Exemplar, ...]]:
    """The pictures of each class that ``--exemplar NAME=FILES`` names.

    Args:
        options: What was given, each with one name; those of one name are joined.

    Raises:
        ValueError: No name or no files, or a folder without images.
        FileNotFoundError: Nothing of that name or pattern.
    """
    found: dict[str, tuple[Exemplar, ...]] = {}
    for text in options:
        name, equals, files = (part.strip() for part in text.partition("="))
        if not (name and equals and files):
            raise ValueError(
                f"--exemplar {text!r}: expected NAME=FILES, such as 'my part=crops/*.png' or "
                "'my part=photo.jpg@10,20,100,120' (x, y, width, height)"
            )
        found[name] = (*found.get(name, ()), *_exemplars_of(files))
    return found


def _exemplars_of(text: str) -> list[Exemplar]:
    """Those of a file, a folder, a pattern or a file with a box."""
    path = Path(text)
    with suppress(RuntimeError):  # "~" of nobody
        path = path.expanduser()
    boxed = re.fullmatch(r"(.+)@([^@/]*,[^@/]*)", str(path))
    if boxed and not path.exists():
        try:
            numbers = [float(number) for number in boxed[2].split(",")]
        except ValueError:
            numbers = []
        box = checked_box(numbers, f"--exemplar {text}")
        if not Path(boxed[1]).exists():
            raise FileNotFoundError(f"--exemplar {text}: {boxed[1]} does not exist")
        return [Exemplar(Path(boxed[1]), box)]
    if path.exists():
        return [Exemplar(file) for file in list_images([path])]
    matches = [Path(match) for match in sorted(glob(str(path), recursive=True))]  # noqa: PTH207
    files = [match for match in matches if match.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise FileNotFoundError(f"--exemplar {text}: no such picture, folder or pattern")
    return [Exemplar(file) for file in files]


def with_exemplars(
    words: Vocabulary | None, exemplars: Mapping[str, tuple[Exemplar, ...]]
) -> Vocabulary:
    """Classes given by words, by pictures or by both.

    Args:
        words: Those that have words; None: no class has.
        exemplars: Pictures by name. The class of that name gets them; where there is none, it is a
            new one, by pictures alone.

    Raises:
        ValueError: A name that no vocabulary may have.
    """
    found = [] if words is None else list(words.categories)
    places = {prompt_name(category.prompt_name): i for i, category in enumerate(found)}
    first = len(found)
    for name, pictures in exemplars.items():
        place = places.get(prompt_name(name))
        if place is None:
            found.append(Category(name, exemplars=pictures, exemplar_weight=1.0))
        else:
            known = found[place]
            found[place] = replace(known, exemplars=(*known.exemplars, *pictures))
    new = [category.name for category in found[first:]]
    check_names(new, "--exemplar", [repr(name) for name in new])
    if words is None:
        return Vocabulary("exemplars", tuple(found))
    return replace(words, categories=tuple(found))


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
