"""Finding the files of a data set, with messages that name them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fineclip.images import IMAGE_SUFFIXES
from fineclip.paths import inside


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
    if files and not any(inside(root, file).is_file() for file in files):
        raise FileNotFoundError(
            f"none of the {len(files)} images that {what} lists is in {root} "
            f"(first: {files[0]}); is this the right image folder?"
        )
