"""Finding the files of a data set, with messages that name them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fineclip.paths import inside


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
