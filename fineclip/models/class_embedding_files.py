"""Class embeddings as files: what they hold, and how they are checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from fineclip.checkpoints.safe import read_safetensors
from fineclip.checkpoints.write import write_safetensors
from fineclip.files import parse_json
from fineclip.weights import resolved

SUFFIX = ".safetensors"

_TENSOR = "embeddings"
_CHUNK = 1 << 22


@dataclass(frozen=True)
class ClassEmbeddings:
    """Embeddings of named classes.

    Args:
        names: K class names in the order of the rows.
        embeddings: (K, D) float32 unit vectors; (K + 1, D) with a background, whose row is last.
        background: The word of the last row, None without one.
        metadata: Where they come from: model, pretrained, templates, content_hash, ...

    Raises:
        ValueError: The matrix does not fit the names.
    """

    names: tuple[str, ...]
    embeddings: Tensor
    background: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.names) + (self.background is not None)
        if self.embeddings.ndim != 2 or len(self.embeddings) != rows:
            raise ValueError(
                f"class embeddings of shape {tuple(self.embeddings.shape)} for {len(self.names)} "
                f"names{' and a background' if self.background is not None else ''}; expected "
                f"({rows}, D)"
            )

    @property
    def origin(self) -> str:
        """What messages call them."""
        return self.metadata.get("file") or f"class embeddings of {self.metadata.get('vocabulary')}"

    def select(self, names: Sequence[str]) -> ClassEmbeddings:
        """The given classes in the given order; the background stays last.

        Args:
            names: Class names. Where the source has a name twice, only the complete list in its
                own order can be taken.

        Returns:
            Embeddings of those classes.

        Raises:
            ValueError: A class that is not here, or whose name is here twice.
        """
        if tuple(names) == self.names:
            return self
        if missing := [name for name in names if name not in self.names]:
            raise ValueError(
                f"{self.origin}: no embedding of {_listed(missing)}; it holds "
                f"{len(self.names)} classes; build it again from a vocabulary that names all"
            )
        if twice := [name for name in names if self.names.count(name) > 1]:
            raise ValueError(f"{self.origin}: {_listed(twice)}: several classes of that name")
        position = {name: index for index, name in enumerate(self.names)}
        rows = [position[name] for name in names]
        if self.background is not None:
            rows.append(len(self.names))
        return replace(self, names=tuple(names), embeddings=self.embeddings[rows])

    def with_background(self, background: str | None) -> ClassEmbeddings:
        """The same with the wanted background row, or without one.

        Args:
            background: The word, None for no such row.

        Returns:
            The embeddings.

        Raises:
            ValueError: There is no background, or one made from another word.
        """
        if background == self.background:
            return self
        if background is None:
            return replace(self, embeddings=self.embeddings[:-1], background=None)
        held = f"one for {self.background!r}" if self.background else "none"
        raise ValueError(
            f"{self.origin}: a background row for {background!r} is needed and it has {held}; "
            f"build it again with --background {background}"
        )

    def require_width(self, width: int) -> None:
        """Checks D.

        Args:
            width: The D that is expected.

        Raises:
            ValueError: Another D.
        """
        if self.embeddings.shape[1] != width:
            made_with = self.metadata.get("model")
            raise ValueError(
                f"{self.origin}: embeddings of width {self.embeddings.shape[1]}"
                f"{f' (made with {made_with})' if made_with else ''}, expected {width}; build "
                "them with the model that they are compared with"
            )


def check_class_embeddings_target(path: str | Path) -> None:
    """Refuses a file that class embeddings cannot be written to, before they are made.

    Raises:
        ValueError: Another suffix than ``.safetensors``.
        FileNotFoundError: Its folder does not exist.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise ValueError(f"{path} must end in {SUFFIX}: class embeddings are written as such files")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"folder {path.absolute().parent} does not exist")


def write_class_embeddings(path: str | Path, embeddings: ClassEmbeddings) -> None:
    """Writes a safetensors file: the tensor ``embeddings``, the rest as strings of its header.

    Args:
        path: File to write, ending in ``.safetensors``.
        embeddings: What to write.

    Raises:
        ValueError: Another suffix.
        OSError: The folder does not exist or cannot be written to.
    """
    check_class_embeddings_target(path)
    metadata = {key: value for key, value in embeddings.metadata.items() if key != "file"}
    metadata["names"] = json.dumps(embeddings.names)
    if embeddings.background is not None:
        metadata["background"] = embeddings.background
    write_safetensors(Path(path), {_TENSOR: embeddings.embeddings}, metadata)


def read_class_embeddings(path: str | Path) -> ClassEmbeddings:
    """Reads what :func:`write_class_embeddings` wrote.

    Args:
        path: The file.

    Returns:
        The embeddings on the CPU in float32.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no complete file of class embeddings.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"class embeddings {path} do not exist")
    tensors, metadata = read_safetensors(path)
    metadata.pop("format", None)  # a word to other libraries
    embeddings = tensors.get(_TENSOR)
    if embeddings is None or "names" not in metadata:
        raise ValueError(
            f"{path}: expected class embeddings of tools/build_class_embeddings.py, a tensor "
            f"{_TENSOR!r} and 'names' in the header"
        )
    background = metadata.pop("background", None)
    if background is not None and not background.strip():
        raise ValueError(f"{path}: background: expected a word, got {background!r}")
    try:
        names = _parse_names(metadata.pop("names"))
        metadata["file"] = str(path)
        result = ClassEmbeddings(names, embeddings.float(), background, metadata)
        _check_values(embeddings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return result


def _parse_names(text: str) -> tuple[str, ...]:
    names = parse_json(text, "names")
    if not isinstance(names, list) or not names:
        raise ValueError(f"names: expected a list of class names, got {names!r:.80}")
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"names: expected class names, got {name!r:.80} among them")
    return tuple(names)


def _check_values(embeddings: Tensor) -> None:
    """Refuses (K, D) that have no direction."""
    if not embeddings.is_floating_point() or not embeddings.shape[1]:
        raise ValueError(
            f"{_TENSOR}: expected floating-point numbers, got {tuple(embeddings.shape)} "
            f"{embeddings.dtype}"
        )
    if not torch.isfinite(embeddings).all():
        raise ValueError("some embeddings are not finite")
    if not embeddings.any(dim=1).all():
        raise ValueError(f"{_TENSOR}: a row of zeros is no embedding")


def weights_identity(model: str, pretrained: str | Path) -> str:
    """What decides the weights: the content of a file or folder, or model and tag.

    Args:
        model: open_clip name.
        pretrained: Path of a checkpoint, or a tag.

    Returns:
        A string that differs where the weights differ.
    """
    path = Path(resolved(pretrained))
    if not path.exists():
        return f"{model}/{pretrained}"
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    for file in files:
        if file is not path:
            digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def content_hash(model: str, weights: str, prompts: Sequence[Sequence[str]]) -> str:
    """What tells class embeddings apart: everything that decides their values.

    Args:
        model: open_clip name.
        weights: From :func:`weights_identity`.
        prompts: The prompts of each row.

    Returns:
        64 hexadecimal digits.
    """
    content = json.dumps([1, model, weights, prompts], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
