"""What a checkpoint may become in memory, for the bytes that it has as a file.

torch stores what it writes as it is. A file that unpacks to many times its size, or that names one
small storage as a huge tensor, is damaged or meant to fill the memory: archives are looked at
before they are unpacked, tensors before anybody copies them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, strided

MAX_RATIO = 20
"""Bytes in memory for each byte of the file; weights compress to half at best."""

ALLOWANCE = 1 << 24
"""Bytes that any file may take besides."""

MAX_PACKED_PICKLE = 1 << 20
"""Bytes of a pickle that is compressed, as torch never leaves it: each can become an object."""


class ExcessiveSizeError(ValueError):
    """A file would take far more memory than it has bytes; the message says how much."""


def check_archive(path: Path) -> None:
    """Looks at the sizes that a zip archive states, which its readers do not go beyond.

    Raises:
        ExcessiveSizeError: They are out of bounds.
        zipfile.BadZipFile: It is no such archive.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    _require_bounded(sum(entry.file_size for entry in entries), path)
    for entry in entries:
        packed = entry.compress_type != zipfile.ZIP_STORED
        if packed and entry.filename.endswith(".pkl") and entry.file_size > MAX_PACKED_PICKLE:
            raise ExcessiveSizeError(
                f"{entry.filename} in it is compressed, and has {entry.file_size} bytes unpacked"
            )


def check_tensors(content: Any, path: Path) -> None:
    """Looks at the tensors that a file has become, at any depth in containers.

    Raises:
        ExcessiveSizeError: Their elements are out of bounds: they repeat what the file has once.
    """
    total, seen, todo = 0, set(), [content]
    while todo:
        item = todo.pop()
        if isinstance(item, Tensor):
            if item.layout is strided:
                total += item.numel() * item.element_size()
        elif isinstance(item, Mapping | list | tuple) and id(item) not in seen:
            seen.add(id(item))  # a container can hold itself
            todo.extend(item.values() if isinstance(item, Mapping) else item)
    _require_bounded(total, path)


def _require_bounded(total: int, path: Path) -> None:
    size = path.stat().st_size
    if total > ALLOWANCE + MAX_RATIO * size:
        raise ExcessiveSizeError(f"its {size} bytes would become {total}")
