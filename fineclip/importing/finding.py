"""The files of a source: listed once, found by whatever name an annotation gives them."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from fineclip.files import require_folder
from fineclip.images import IMAGE_SUFFIXES
from fineclip.paths import leaves_folder, require_regular

_NOT_THEIRS = frozenset({"__MACOSX", "@eaDir", "node_modules"})

_ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz", ".zst"})
_HASH = re.compile(r"^[0-9a-f]{8}-(?=.)")

_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_of(words: Sequence[str]) -> str | None:
    """The split that the first of some words names ("valid", "train2017"); None: none does."""
    for word in words:
        found = re.fullmatch(r"([a-z]+)[-_ ]?\d*", word.lower())
        if found and found[1] in _SPLIT_NAMES:
            return _SPLIT_NAMES[found[1]]
    return None


def name_words(name: str) -> list[str]:
    """The words of a file's name ("instances_train2017" has two)."""
    return [word for word in re.split(r"[^A-Za-z]+", name) if word]


def printable(name: str) -> str:
    """A name with codes for bytes that are no UTF-8, as old disks and archives have them."""
    return name.encode("utf-8", "backslashreplace").decode()


def without_hash(name: str) -> str:
    """A name without the hash that Label Studio puts before those of uploaded files."""
    return _HASH.sub("", name)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, whatever ends them.

    Args:
        path: UTF-8 or UTF-16, with or without a byte order mark.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no text in these encodings; the message names the file.
    """
    require_regular(path)
    content = path.read_bytes()
    try:
        text = content.decode(json.detect_encoding(content)).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text in UTF-8 (byte {error.start}); save it with that encoding"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


class SourceFiles:
    """The files below a folder, hidden ones left out; links are followed.

    Args:
        root: The folder, or one file of it.
        images: Folder of the images; None: ``root``.
        labels: Folder or file of the labels; None: ``root``.

    Raises:
        FileNotFoundError: One of them does not exist.
    """

    def __init__(
        self, root: str | Path, images: Path | None = None, labels: Path | None = None
    ) -> None:
        root = Path(root)
        if not root.exists():
            raise FileNotFoundError(f"SRC: {root} does not exist")
        if root.is_file() and root.suffix.lower() in _ARCHIVES:
            raise ValueError(f"SRC: {root} is an archive; unpack it and give its folder")
        self.given = root
        """What was named: a folder or a file."""
        self.root = root if root.is_dir() else root.parent
        self.image_root = self.root if images is None else require_folder(images, "--images")
        if labels is not None and not labels.exists():
            raise FileNotFoundError(f"--labels: {labels} does not exist")
        self.named_labels = labels
        self.label_root = labels if labels is not None and labels.is_dir() else self.root

    @cached_property
    def files(self) -> list[Path]:
        """All files of the source."""
        return list(_walk(self.root))

    @cached_property
    def images(self) -> list[Path]:
        """All files that are images by their name."""
        files = self.files if self.image_root == self.root else list(_walk(self.image_root))
        return [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]

    def labels(self, *suffixes: str) -> list[Path]:
        """Files with one of some suffixes, where labels are: in ``--labels`` or in the source.

        Args:
            suffixes: In lower case, with the dot.
        """
        if self.named_labels is not None and self.named_labels.is_file():
            return [self.named_labels]
        named = self.given.is_file() and self.named_labels is None
        if named and self.given.suffix.lower() in suffixes:
            return [self.given]
        files = self.files if self.label_root == self.root else list(_walk(self.label_root))
        return [file for file in files if file.suffix.lower() in suffixes]

    def require_images(self) -> list[Path]:
        """The images.

        Raises:
            FileNotFoundError: There are none; the message says what there is instead.
        """
        if self.images:
            return self.images
        kinds = sorted({file.suffix.lower() for file in self.files if file.suffix})
        there = f" (files there: {', '.join(kinds[:6])})" if kinds else ""
        raise FileNotFoundError(
            f"{self.image_root} holds no images{there}; --images DIR names their folder, known "
            f"are {', '.join(sorted(IMAGE_SUFFIXES))}"
        )

    def short(self, path: Path) -> str:
        """What messages call a file: its path in the source."""
        for root in (self.root, self.image_root, self.label_root):
            if path.is_relative_to(root):
                path = path.relative_to(root)
                break
        return printable(str(path))

    def split_of_folder(self, path: Path) -> str | None:
        """The split that one of the folders around a file, in the source, names."""
        root = self.image_root if path.is_relative_to(self.image_root) else self.root
        parts = path.relative_to(root).parts[:-1] if path.is_relative_to(root) else ()
        return split_of(parts)

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        return _by(self.images, lambda path: path.name)

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        return _by(self.images, lambda path: path.stem)

    @cached_property
    def _by_folder(self) -> dict[str, list[Path]]:
        return _by(self.images, lambda path: f"{path.parent.name}/{path.name}")

    def find_image(self, name: str, where: str, near: Path | None = None) -> Path | None:
        """The image that an annotation means.

        Names are compared without regard to case; folders of other machines, addresses and the
        hashes of Label Studio do not matter. Only files of the source are ever found.

        Args:
            name: Whatever the annotation says: a name, a path, an address.
            where: The annotation, for messages.
            near: A folder; of several files of one name, those below it come first.

        Returns:
            The file, None if there is no such.

        Raises:
            ValueError: Several files are meant equally, or the name leads upwards out of the
                source, and nothing there has it.
        """
        for wanted in _spellings(name):
            base = name_key(wanted.name)
            if len(wanted.parts) > 1:
                with_folder = self._by_folder.get(f"{name_key(wanted.parts[-2])}/{base}", [])
                if len(with_folder) == 1:
                    return with_folder[0]
            stem = name_key(wanted.stem if wanted.suffix.lower() in IMAGE_SUFFIXES else wanted.name)
            found = self._by_name.get(base) or self._by_stem.get(stem)
            if found:
                return self._likeliest(found, wanted, where, near)
        plain = name.strip().replace("\\", "/")
        if not plain.startswith("/") and leaves_folder(plain):
            raise ValueError(
                f"{where}: file name {name!r} leads out of the folder {self.image_root}, which has "
                "no image of that name; --images DIR names the folder of the images"
            )
        return None

    def _likeliest(
        self, found: list[Path], wanted: PurePosixPath, where: str, near: Path | None
    ) -> Path:
        if len(found) == 1:
            return found[0]

        def rank(path: Path) -> tuple[int, int, bool]:
            own = [name_key(part) for part in path.parts[::-1]]
            asked = [name_key(part) for part in wanted.parts[::-1]]
            own[0], asked[0] = name_key(path.stem), name_key(wanted.stem)
            shared = _same_start(own, asked)
            around = () if near is None else near.absolute().parts
            close = _same_start(path.absolute().parts, around)
            return shared, close, name_key(path.name) == name_key(wanted.name)

        best = max(map(rank, found))
        first = [path for path in found if rank(path) == best]
        if len(first) > 1:
            raise ValueError(
                f"{where}: {wanted} may be {self.short(first[0])} or {self.short(first[1])}; "
                "--images DIR names the folder of the images that are meant"
            )
        return first[0]


def _same_start(first: Sequence[str], second: Sequence[str]) -> int:
    """How many entries two lists begin with alike."""
    pairs = zip(first, second, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _by(paths: Sequence[Path], name: Callable[[Path], str]) -> dict[str, list[Path]]:
    found: defaultdict[str, list[Path]] = defaultdict(list)
    for path in paths:
        found[name_key(name(path))].append(path)
    return found


def name_key(name: str) -> str:
    """What two names share that differ in case or in how Unicode is composed."""
    return unicodedata.normalize("NFC", name).casefold()


def _spellings(name: str) -> Iterator[PurePosixPath]:
    """The paths that a name may stand for, the likeliest first; none of them leads anywhere."""
    plain = name.strip().replace("\\", "/")
    _, asked, local = plain.partition("?d=")  # Label Studio's address of a local file
    for text in dict.fromkeys((local if asked else plain, unquote(local if asked else plain))):
        text = text.partition("://")[2] or text
        text = re.sub(r"^[A-Za-z]:", "", text)
        parts = [part for part in text.split("/") if part not in ("", ".", "..")]
        if not parts:
            continue
        yield PurePosixPath(*parts)
        if (bare := without_hash(parts[-1])) != parts[-1]:
            yield PurePosixPath(*parts[:-1], bare)


def _walk(root: Path) -> Iterator[Path]:
    """Files below a folder by name; a link back to a folder around it is not followed."""
    around = {str(root): frozenset({os.path.realpath(root)})}
    for folder, folders, files in os.walk(root, followlinks=True):
        yield from (Path(folder, file) for file in sorted(files) if not file.startswith("."))
        above = around.pop(folder)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in _NOT_THEIRS)
        for name in list(folders):
            path = f"{folder.rstrip(os.sep)}{os.sep}{name}"  # as os.walk joins them
            if (real := os.path.realpath(path)) in above:
                folders.remove(name)
            else:
                around[path] = above | {real}
