"""Reading checkpoint files without ever unpickling code."""

from __future__ import annotations

import pickle
import shutil
import sys
import warnings
import zipfile
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from fineclip.checkpoints.bounds import ExcessiveSizeError, check_archive, check_tensors
from fineclip.checkpoints.torchscript import is_torchscript, read_torchscript
from fineclip.paths import require_regular


class _LogBuffer:
    """Stands in for mmengine's HistoryBuffer (log values) where mmengine is not in use."""

    min = max = current = mean = None


def _method(owner: Any, name: str) -> Any:
    """What a log buffer's pickle gets by ``getattr``: its own public methods."""
    if owner is not _log_buffer() or name.startswith("_"):
        raise pickle.UnpicklingError(f"Unsupported attribute {name!r} of {owner!r:.80}")
    return getattr(owner, name, None)


def _log_buffer() -> type:
    module = sys.modules.get("mmengine.logging.history_buffer")
    return getattr(module, "HistoryBuffer", _LogBuffer)


def _plain_types() -> list[Any]:
    """Names beyond torch's own that pickles may ask for: what mmengine saves beside weights."""
    scalar, reconstruct = np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]
    return [
        *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
        *((reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
        np.dtype,
        np.ndarray,
        *{type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"},
        slice,
        (_log_buffer(), "mmengine.logging.history_buffer.HistoryBuffer"),
        (_method, "builtins.getattr"),
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
    try:
        require_regular(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty")
    if path.suffix == ".safetensors":
        return read_safetensors(path, map_location)[0]
    try:
        content = _read_pickled(path, map_location, mmap)
        check_tensors(content, path)
        return content
    except ExcessiveSizeError as error:
        raise CheckpointError(
            f"{path} was refused: {error}, which no checkpoint does; re-save it with torch.save "
            "where you trust its origin"
        ) from error
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


def _read_pickled(path: Path, map_location: Any, mmap: bool) -> Any:
    """What torch.save or TorchScript wrote."""
    is_archive = zipfile.is_zipfile(path)  # files of before torch 1.6 are none, and not mapped
    if is_archive:
        check_archive(path)
        if is_torchscript(path):
            return read_torchscript(path)
    with warnings.catch_warnings(), torch.serialization.safe_globals(_plain_types()):
        warnings.filterwarnings("ignore", "Detected pickle protocol")
        return torch.load(
            path, map_location=map_location, weights_only=True, mmap=mmap and is_archive
        )


def read_stream(stream: Any, map_location: Any = "cpu") -> Any:
    """As :func:`read_checkpoint`, from an open file.

    Raises:
        CheckpointError: See there.
    """
    with NamedTemporaryFile(suffix=".pth") as copy:
        shutil.copyfileobj(stream, copy)
        copy.flush()
        return read_checkpoint(copy.name, map_location)


def without_program(checkpoint: Any) -> Any:
    """A checkpoint without the text of a config, which mmengine runs when it resumes from it."""
    meta = checkpoint.get("meta") if isinstance(checkpoint, dict) else None
    if isinstance(meta, dict):
        meta.pop("config", None)
    return checkpoint


def fetch_checkpoint(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
) -> Any:
    """``torch.hub.load_state_dict_from_url`` that reads as :func:`read_checkpoint` does.

    Raises:
        CheckpointError: See there.
        OSError: It cannot be fetched.
    """
    file = Path(model_dir or Path(torch.hub.get_dir(), "checkpoints"))
    file.mkdir(parents=True, exist_ok=True)
    file /= Path(file_name or urlparse(url).path).name
    if not file.exists():
        known = torch.hub.HASH_REGEX.search(file.name) if check_hash else None
        torch.hub.download_url_to_file(url, str(file), known and known.group(1), progress)
    return read_checkpoint(file, map_location)


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
    """Lets mmengine's loaders in this process find weights as all that reads checkpoints here does.

    That is in other containers than ``state_dict``, and without the names of wrappers. That they
    never unpickle is seen to when fineclip is imported (:mod:`fineclip.checkpoints.libraries`).
    """
    from mmengine.runner import CheckpointLoader  # slow to import, and converting needs none of it

    from fineclip.checkpoints.state_dict import as_mmengine_reads  # it raises what is defined here

    def load_local(filename: str, map_location: Any = None) -> Any:
        checkpoint = without_program(read_checkpoint(filename, map_location))
        return as_mmengine_reads(checkpoint, filename)

    def load_url(filename: str, map_location: Any = None) -> Any:
        checkpoint = without_program(fetch_checkpoint(filename, map_location=map_location))
        return as_mmengine_reads(checkpoint, filename)

    CheckpointLoader.register_scheme("", load_local, force=True)
    CheckpointLoader.register_scheme(("http://", "https://"), load_url, force=True)
