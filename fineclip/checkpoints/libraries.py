"""Checkpoint readers of mmengine, detectron2 and fvcore that never run what a file holds.

mmengine unpickles whatever ``weights_only=True`` refuses, takes what it fetches from the network
as it is, and executes the text of a config that a checkpoint may have in it; detectron2 unpickles
``*.pkl``. What their modules read with (their ``torch.load``, ``pickle``, ``load_url``) is replaced
there, where it is looked up at each call, so that ``init_detector``, ``DetInferencer``,
``load_checkpoint`` and the checkpointers are safe no matter who imported what first. ``fineclip``
arranges that on import (:mod:`fineclip.import_hook`).

The environment variable ``TORCH_FORCE_WEIGHTS_ONLY_LOAD`` was the alternative. It would change
every ``torch.load`` of a program that imports fineclip, also one that asks for its own objects
with ``weights_only=False``, and would leave out ``*.pkl``.
"""

from __future__ import annotations

import codecs
import pickle
from collections import OrderedDict
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from fineclip.checkpoints.safe import (
    CheckpointError,
    fetch_checkpoint,
    read_checkpoint,
    read_stream,
    without_program,
)


def make_readers_safe(module: ModuleType) -> None:
    """Replaces the readers of one module in :data:`READERS_BY_MODULE`.

    Raises:
        ImportError: The library has been rewritten: what reads checkpoints is not there.
    """
    owner_name, replacements = READERS_BY_MODULE[module.__name__]
    owner = getattr(module, owner_name, None) if owner_name else module
    for name, function in replacements.items():
        if not hasattr(owner, name):
            raise ImportError(
                f"{module.__name__} has no {owner_name}{'.' if owner_name else ''}{name}, so "
                "fineclip cannot make its reading of checkpoints safe: install the version that "
                "requirements/ names"
            )
        if isinstance(function, _Wrapper):
            function = function.around(getattr(owner, name))
        setattr(owner, name, function)


def read_array_pickle(stream: Any, encoding: str = "latin1") -> Any:
    """Reads a pickle of containers and NumPy arrays, as detectron2's model zoo has them.

    Args:
        stream: The open file.
        encoding: Of Python 2's strings.

    Raises:
        CheckpointError: It asks for anything else, or is damaged.
    """
    file = getattr(stream, "name", "a pickle")
    try:
        return _ArrayUnpickler(stream, encoding=encoding).load()
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} was refused: a .pkl file may hold names, numbers and arrays, and anything "
            f"else could run code on loading ({error}). Save its state dict with torch.save, or as "
            "safetensors, where you trust its origin"
        ) from error
    except Exception as error:  # what a damaged file makes an unpickler raise can be anything
        raise CheckpointError(f"{file} is damaged or no pickle") from error


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _ARRAY_NAMES.get((module.replace("numpy._core.", "numpy.core."), name))
        if found is None:
            raise pickle.UnpicklingError(f"Unsupported global: {module}.{name}")
        return found


def _bytes_of(text: str, encoding: str) -> bytes:
    """How bytes are written in pickles of protocol 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"Unsupported encoding {encoding!r:.80}")
    return codecs.latin_1_encode(text)[0]


_ARRAY_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(1).__reduce__()[0],
    ("numpy.core.multiarray", "scalar"): np.float64(0).__reduce__()[0],
    ("_codecs", "encode"): _bytes_of,
}


class _Wrapper:
    """A replacement that calls what it replaces."""

    def __init__(self, around: Callable[[Any], Any]) -> None:
        self.around = around


def _with_a_config(build: Any) -> Any:
    """The ``_init_model`` of mmengine, not from the program text in a checkpoint."""

    def _init_model(self: Any, cfg: Any, weights: str | None, device: str = "cpu") -> Any:
        if not cfg:
            raise CheckpointError(
                f"{weights}: a config inside of a checkpoint is a program, which is not run: name "
                "the model's config as well (model=...)"
            )
        return build(self, cfg, weights, device)

    return _init_model


class _TorchOfAReader(ModuleType):
    """What a module that reads checkpoints has for torch: the same, but for ``load``.

    Args:
        load: Takes a path or an open file, and the place for its tensors.
    """

    def __init__(self, load: Callable[..., Any]) -> None:
        super().__init__("torch")
        self.load = load

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _read(file: Any, map_location: Any = None, **_: Any) -> Any:
    return (read_stream if hasattr(file, "read") else read_checkpoint)(file, map_location)


def _read_for_mmengine(file: Any, map_location: Any = None, **_: Any) -> Any:
    return without_program(_read(file, map_location))


def _fetch_for_mmengine(url: str, **options: Any) -> Any:
    return without_program(fetch_checkpoint(url, **options))


READERS_BY_MODULE: dict[str, tuple[str, dict[str, Any]]] = {
    "mmengine.runner.checkpoint": (
        "",
        {"torch": _TorchOfAReader(_read_for_mmengine), "load_url": _fetch_for_mmengine},
    ),
    "mmengine.infer.infer": ("BaseInferencer", {"_init_model": _Wrapper(_with_a_config)}),
    "fvcore.common.checkpoint": ("", {"torch": _TorchOfAReader(_read)}),
    "detectron2.checkpoint.detection_checkpoint": (
        "",
        {
            "torch": _TorchOfAReader(_read),
            "pickle": SimpleNamespace(load=read_array_pickle),  # all that it asks of it
        },
    ),
}
"""Module -> class in it, if it is one's method, and name -> replacement."""
