"""Writing checkpoints atomically, at the speed of copying and without a second copy in memory.

Both libraries write tensors that are mapped from a file about three times as slowly as a copy,
because every page is first touched inside one large write. Touching the pages before they write
makes up for it. Figures: tools/benchmark_checkpoints.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from fineclip.checkpoints.safe import CheckpointError
from fineclip.files import replacing

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")

_PAGE = 4096


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
    own: dict[str, Tensor] = {}
    seen: set[int] = set()
    for key, tensor in tensors.items():
        own[key] = _own_storage(tensor)
        # The library refuses tied weights, since they are read back as two tensors. We want that.
        if own[key].data_ptr() in seen:
            own[key] = own[key].clone()
        seen.add(own[key].data_ptr())
    with replacing(path) as temporary:
        try:
            save_file(own, temporary, {"format": "pt", **(metadata or {})})
        except KeyError as error:
            raise CheckpointError(f"{path}: safetensors files do not hold {error}") from None
        except SafetensorError as error:
            raise OSError(f"{path} cannot be written: {error}") from error
        _sort_metadata(temporary)


def write_torch(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a torch file under a temporary name, then renames it.

    Plain ``torch.save`` would do, but it writes the whole file again for every tensor that is
    mapped from one, the whole matrix for a slice of it, and takes twice the time for checksums
    that torch does not read.

    Args:
        path: The file; replaced as a whole if it exists.
        content: A state dict, or a dict of them and of plain data.

    Raises:
        OSError: The file cannot be written.
    """
    checksums = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        save_torch(path, _own_storages(content))
    finally:
        torch.serialization.set_crc32_options(checksums)


def save_torch(path: Path, content: Any) -> None:
    """``torch.save`` under a temporary name, which is then renamed; equal content, equal bytes.

    Given a path, ``torch.save`` puts its name into the file, and does not say why it cannot be
    written.

    Args:
        path: The file; replaced as a whole if it exists.
        content: What ``torch.save`` takes.

    Raises:
        OSError: The file cannot be written.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's own, of what its writing to the file has raised
            cause = error.__context__
            if isinstance(cause, OSError):
                raise OSError(cause.errno, cause.strerror, str(path)) from error
            raise


def _own_storages(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _own_storages(value) for key, value in content.items()}
    return _own_storage(content) if isinstance(content, Tensor) else content


def _own_storage(tensor: Tensor) -> Tensor:
    """The tensor on the CPU, contiguous, with a storage that holds nothing else.

    Memory is copied only where that needs it. Every page is touched: to fault them in here, in
    sequence, is much faster than inside a write call.
    """
    if not tensor.numel():
        return tensor.detach().cpu().clone()
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    data[::_PAGE].max(initial=0)
    return torch.from_numpy(data).view(tensor.dtype).reshape(tensor.shape)


def _sort_metadata(path: Path) -> None:
    """Puts the header's strings in order: the library's order changes from run to run."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(length))  # the format pads with spaces
