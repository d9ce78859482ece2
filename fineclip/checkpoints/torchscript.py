"""Tensors of a TorchScript archive (OpenAI's CLIP releases) without loading its code."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LOCAL_HEADER = 30  # bytes of a zip entry's local header before its name

_DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Reads the tensors that the modules of an archive hold, memory-mapped.

    The archive's pickle is read by an unpickler that knows tensors, containers and inert
    stand-ins for the scripted modules, and refuses everything else; the archived code is not
    touched.

    Args:
        path: The archive.

    Returns:
        Tensors by their dotted names, in their stored precision, on the CPU.

    Raises:
        pickle.UnpicklingError: The pickle asks for anything else.
        ValueError: The archive is incomplete.
    """
    with zipfile.ZipFile(path) as archive:
        root = next(n for n in archive.namelist() if n.endswith("/constants.pkl"))
        root = root.removesuffix("constants.pkl")
        try:
            with archive.open(f"{root}data.pkl") as file:
                module = _ScriptUnpickler(file, path, archive, f"{root}data/").load()
        except KeyError as error:
            raise ValueError(f"incomplete TorchScript archive: {error.args[0]}") from error
    return dict(_tensors(module))


class _ScriptObject:
    """Stands in for any scripted class: its attributes, no behaviour."""


def _tensors(module: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, _ScriptObject):
            yield from _tensors(value, f"{prefix}{name}.")


class _ScriptUnpickler(pickle.Unpickler):
    def __init__(self, file: Any, path: Path, archive: zipfile.ZipFile, storages: str) -> None:
        super().__init__(file)
        self._path = path
        self._archive = archive
        self._storages = storages
        self._unpacked: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _ScriptObject
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        known = _KNOWN.get((module, name))
        if known is None:
            raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")
        return known

    def persistent_load(self, saved_id: Any) -> Tensor:
        kind, dtype, key, _, count = saved_id
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"Unsupported persistent id {kind!r}")
        return self._storage(f"{self._storages}{key}", dtype, count)

    def _storage(self, name: str, dtype: torch.dtype, count: int) -> Tensor:
        """(count,) elements of one storage."""
        entry = self._archive.getinfo(name)
        size = count * torch.empty((), dtype=dtype).element_size()
        if entry.file_size < size:
            raise ValueError(f"{name} holds {entry.file_size} bytes, expected {size}")
        if not size:
            return torch.empty(0, dtype=dtype)
        if entry.compress_type != zipfile.ZIP_STORED:
            if name not in self._unpacked:  # however many tensors share it
                content = bytearray(self._archive.read(entry))
                self._unpacked[name] = np.frombuffer(content, np.uint8)
            data = self._unpacked[name][:size]
        else:
            with self._path.open("rb") as file:
                file.seek(entry.header_offset)
                header = file.read(_LOCAL_HEADER)
            lengths = int.from_bytes(header[26:28], "little"), int.from_bytes(header[28:], "little")
            start = entry.header_offset + _LOCAL_HEADER + sum(lengths)
            data = np.memmap(self._path, np.uint8, mode="c", offset=start, shape=(size,))
        return torch.from_numpy(data).view(dtype)


def _rebuild_tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _first(value: Any, *_: Any) -> Any:
    return value


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    **{
        ("torch.jit._pickle", name): _first
        for name in (
            "build_intlist",
            "build_tensorlist",
            "build_doublelist",
            "build_boollist",
            "restore_type_tag",
        )
    },
}
