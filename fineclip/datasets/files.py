"""Reading the files of a data set, with messages that name the file."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})


class UnusableImageError(Exception):
    """One file of a data set cannot be used; the evaluation goes on without it.

    Args:
        file: Path of the file.
        reason: What is wrong with it, in one line.
    """

    def __init__(self, file: Path | str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = str(file)
        self.reason = reason


def open_image(path: Path) -> Image.Image:
    """Decodes one image completely.

    Args:
        path: An image file.

    Returns:
        The image in RGB.

    Raises:
        UnusableImageError: The file is missing, truncated, too large or no image.
    """
    with naming_file(path), Image.open(io.BytesIO(read_bytes(path))) as image:
        return image.convert("RGB")


def read_bytes(path: Path) -> bytes:
    """Reads an image file as a whole: Pillow alone would do it in dozens of small pieces.

    Raises:
        UnusableImageError: The file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UnusableImageError(path, "no such file") from None
    except OSError as error:
        raise UnusableImageError(path, f"cannot be read ({error.strerror})") from None


@contextmanager
def naming_file(file: Path | str) -> Iterator[None]:
    """Turns whatever a decoder raises into an error that names the file.

    Raises:
        UnusableImageError: The block failed to decode.
    """
    try:
        yield
    except UnidentifiedImageError:  # its own message shows an address in memory
        raise UnusableImageError(
            file, "cannot be decoded (not an image of a known format)"
        ) from None
    # Pillow raises SyntaxError and ValueError too, depending on the format; torchvision
    # RuntimeError.
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnusableImageError(file, f"cannot be decoded ({reason})") from None


def list_images(paths: Sequence[str | Path]) -> list[Path]:
    """Image files, those of folders in alphabetical order.

    Args:
        paths: Files of any name, and folders, of which those with :data:`IMAGE_SUFFIXES` count.

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


def require_folder(path: Path | str, what: str) -> Path:
    """Checks that a folder exists.

    Args:
        path: The folder.
        what: What it should hold, for the message.

    Returns:
        The path.

    Raises:
        FileNotFoundError: It is missing or no folder.
    """
    if not Path(path).is_dir():
        raise FileNotFoundError(f"{what}: folder {path} does not exist")
    return Path(path)


def require_some_image(root: Path, files: Sequence[str], what: str) -> None:
    """Checks that at least one listed image exists, which tells a wrong folder from a bad file.

    Args:
        root: Image folder.
        files: File names relative to it.
        what: What lists the names, for the message.

    Raises:
        FileNotFoundError: None of the files exists.
    """
    if files and not any((root / file).is_file() for file in files):
        raise FileNotFoundError(
            f"none of the {len(files)} images that {what} lists is in {root} "
            f"(first: {files[0]}); is this the right image folder?"
        )
