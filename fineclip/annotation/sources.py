"""What images are taken from: told by what is there."""

from __future__ import annotations

from pathlib import Path

from fineclip.annotation.folder_source import FolderSource
from fineclip.annotation.records import ImageSource
from fineclip.annotation.tar_source import TarSource


def open_source(
    path: Path,
    *,
    captions: Path | None = None,
    annotations: Path | None = None,
    region_captions: Path | None = None,
    shard_size: int = 1000,
    leave_out: Path | None = None,
) -> ImageSource:
    """Opens a folder of images, or of shards (``*.tar``), or one shard.

    Args:
        path: Where the images are.
        captions: See :class:`fineclip.annotation.folder_source.FolderSource`.
        annotations: Likewise.
        region_captions: Likewise.
        shard_size: Likewise; shards stay what they are.
        leave_out: Likewise.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: A file is malformed, there is no image, or files of captions or boxes were given
            with shards, which have their own.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected a folder of images or of shards")
    if path.is_file() or any(path.glob("*.tar")):
        if path.is_file() and path.suffix != ".tar":
            raise ValueError(f"{path}: expected a folder of images, a folder of shards or a .tar")
        if captions or annotations or region_captions:
            raise ValueError(
                f"{path} holds shards, which have captions and boxes of their own: leave out "
                "--captions, --annotations and --region-captions"
            )
        return TarSource(path)
    for file, option in (
        (captions, "--captions"),
        (annotations, "--annotations"),
        (region_captions, "--region-captions"),
    ):
        if file is not None and not file.is_file():
            raise FileNotFoundError(f"{option}: {file} does not exist")
    return FolderSource(
        path,
        captions=captions,
        annotations=annotations,
        region_captions=region_captions,
        shard_size=shard_size,
        leave_out=leave_out,
    )
