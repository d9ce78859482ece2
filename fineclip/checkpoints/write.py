"""Writing checkpoints atomically, at the speed of copying and without a second copy in memory.

The safetensors library writes from memory at full speed but takes about three times as long as a
copy where the tensors are mapped from a file, because every page is first touched inside one large
write; hence a writer of our own for that simple format. Figures: tools/benchmark_checkpoints.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fineclip.checkpoints.safe import CheckpointError
from fineclip.files import replacing

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")

_CHUNK = 1 << 22
_PAGE = 4096
_ALIGNMENT = 8
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def check_target(path: Path) -> None:
    """Refuses a file name whose suffix says nothing about its format, or a folder.

    Raises:
        CheckpointError: Either of them.
    """
    if path.suffix not in SUFFIXES:
        raise CheckpointError(
            f"{path}: the suffix decides what is written; use one of {', '.join(SUFFIXES)}"
        )
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name the file to write")


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file under a temporary name, then renames it.

    Args:
        path: The file; replaced as a whole if it exists.
        tensors: What to write, on any device, of a plain dtype.
        metadata: Strings for the header.

    Raises:
        CheckpointError: A dtype the format has no name for.
        OSError: The file cannot be written.
    """
    if odd := {str(t.dtype) for t in tensors.values() if t.dtype not in _DTYPES}:
        raise CheckpointError(f"{path}: safetensors files do not hold {', '.join(sorted(odd))}")
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **(metadata or {})}}
    # Wide elements first, so that every tensor is aligned to its element size.
    order = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    offset = 0
    for key, tensor in order:
        end = offset + tensor.numel() * tensor.element_size()
        header[key] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    with replacing(path) as temporary, temporary.open("wb", buffering=0) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in order:
            data = _bytes(tensor)
            for start in range(0, len(data), _CHUNK):
                chunk = data[start : start + _CHUNK]
                _map_pages(chunk)
                _write_all(file, memoryview(chunk))


def write_torch(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a torch file under a temporary name, then renames it.

    Args:
        path: The file; replaced as a whole if it exists.
        content: A state dict, or a dict of them and of plain data.

    Raises:
        OSError: The file cannot be written.
    """
    # Checksums would double the time; torch does not read them.
    checksums = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        with replacing(path) as temporary:
            torch.save(_own_storages(content), temporary)
    finally:
        torch.serialization.set_crc32_options(checksums)


def _bytes(tensor: Tensor) -> np.ndarray:
    """The tensor's elements as (n,) uint8, without a copy where they are contiguous in memory."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _own_storages(content: Any) -> Any:
    """The same memory behind a storage for each tensor.

    Tensors of one mapped file may share its storage, and so do slices of one matrix; torch would
    write each such storage whole.
    """
    if isinstance(content, Mapping):
        return {key: _own_storages(value) for key, value in content.items()}
    if not isinstance(content, Tensor):
        return content
    data = _bytes(content)
    _map_pages(data)
    return torch.from_numpy(data).view(content.dtype).reshape(content.shape)


def _map_pages(data: np.ndarray) -> None:
    """Reads a byte per page: in sequence that is much faster than faults inside a write call."""
    data[::_PAGE].max(initial=0)


def _write_all(file: Any, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]
