"""Paths that others have named: kept in their folder, and off pipes and devices.

A file name in an annotation file is of whoever made that file. :func:`inside` keeps it in the
folder that it is relative to, as it is spelt; :func:`require_regular` refuses pipes, which would
block a reader, and devices, which may never end. Links are followed wherever they lead: a name
cannot make one, and folders of images that are links to another disk are common.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from pathlib import Path


def inside(root: str | Path, name: str) -> Path:
    """The path of a file that a data set names, relative to its folder.

    Args:
        root: The folder.
        name: The name, with the separators of POSIX.

    Raises:
        ValueError: It leads out of the folder.
    """
    if leaves_folder(name):
        raise ValueError(f"file name {name!r} leads out of the folder {root}; expected one in it")
    return Path(root, posixpath.normpath(name) if ".." in name else name)


def leaves_folder(name: str) -> bool:
    """Whether a file name, as it is spelt, leads out of the folder that it is relative to."""
    if name.startswith("/"):
        return True
    return ".." in name and posixpath.normpath(name).split("/")[0] == ".."


def require_regular(path: str | Path) -> None:
    """Refuses what is no regular file, links followed.

    Raises:
        FileNotFoundError: There is no such file.
        IsADirectoryError: It is a folder.
        OSError: It is a pipe, a socket or a device.
    """
    mode = Path(path).stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "no regular file, but a pipe, socket or device", str(path))
