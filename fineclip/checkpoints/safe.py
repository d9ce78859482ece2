"""Reading checkpoint files without ever unpickling code."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from fineclip.checkpoints.torchscript import is_torchscript, read_torchscript

# Scores that mmcv and mmengine store beside the weights are often NumPy scalars: plain data.
_NUMPY_SCALARS = [
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    np.float64(0).__reduce__()[0],
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i4", "i8", "?")},
]


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, is not safe to read, or does not fit."""


def read_checkpoint(path: str | Path, map_location: Any = "cpu", *, mmap: bool = False) -> Any:
    """Reads a safetensors file, or a torch file with ``weights_only=True``.

    Args:
        path: A local file. TorchScript archives give up their tensors; their code is not loaded.
        map_location: Where tensors are put, as in ``torch.load``.
        mmap: Map the file instead of reading it. The tensors are then valid only as long as the
            file is not overwritten in place.

    Returns:
        The stored object; for safetensors and TorchScript a dict of tensors.

    Raises:
        FileNotFoundError: The path does not exist.
        CheckpointError: The path is no readable checkpoint, or reading it would run code.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name the checkpoint file inside it")
    if not path.exists():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty")
    if path.suffix == ".safetensors":
        return read_safetensors(path, map_location)[0]
    try:
        if is_torchscript(path):
            return read_torchscript(path)
        # Files of before torch 1.6 cannot be mapped.
        mmap = mmap and zipfile.is_zipfile(path)
        with warnings.catch_warnings(), torch.serialization.safe_globals(_NUMPY_SCALARS):
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(path, map_location=map_location, weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        reason = str(error).split("Please file an issue")[0].strip().splitlines()
        detail = next((line for line in reason if "Unsupported" in line or "GLOBAL" in line), "")
        raise CheckpointError(
            f"{path} was refused: it is no checkpoint of plain tensors, and anything else could "
            f"run code on loading{f' ({detail.strip()})' if detail else ''}. "
            "Re-save the state dict alone, or as safetensors, where you trust its origin"
        ) from error
    except Exception as error:
        # What a damaged file makes an unpickler raise can be anything. The reasons (a byte, an
        # error number) help nobody; they stay as the cause.
        raise CheckpointError(
            f"{path} is damaged or no checkpoint: a file that torch.save wrote was expected; if it "
            "was downloaded or copied, compare its size with the original"
        ) from error


def read_safetensors(
    path: Path, map_location: Any = "cpu"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, mapped, and the strings of its header.

    Raises:
        CheckpointError: It is damaged, or no such file.
    """
    try:
        with safe_open(path, "pt", device=str(map_location) if map_location else "cpu") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except Exception as error:  # the library's own, or torch's for types that it does not know
        raise CheckpointError(f"{path} is not a complete safetensors file: {error}") from error


def install_safe_loader() -> None:
    """Makes mmengine's checkpoint loading safe for this process.

    mmengine retries with full unpickling when ``weights_only=True`` fails; its loaders for local
    files and for http(s) are replaced by ones that do not. They also find weights in other
    containers than ``state_dict`` and drop the names of wrappers, as all that reads checkpoints
    here does.
    """
    from mmengine.runner import CheckpointLoader  # slow to import, and converting needs none of it

    from fineclip.checkpoints.state_dict import as_mmengine_reads  # it raises what is defined here

    def load_local(filename: str, map_location: Any = None) -> Any:
        return as_mmengine_reads(read_checkpoint(filename, map_location), filename)

    def load_url(filename: str, map_location: Any = None) -> Any:
        checkpoint = torch.hub.load_state_dict_from_url(
            filename, map_location=map_location, weights_only=True
        )
        return as_mmengine_reads(checkpoint, filename)

    CheckpointLoader.register_scheme("", load_local, force=True)
    CheckpointLoader.register_scheme(("http://", "https://"), load_url, force=True)
