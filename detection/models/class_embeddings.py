"""Where the box head's class embeddings come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fineclip.checkpoints import read_checkpoint
from fineclip.models import BACKGROUND, resolve_class_embeddings
from fineclip.models.class_embedding_files import SUFFIX
from fineclip.text import Vocabulary

EmbeddingSource = Tensor | Sequence[Sequence[float]] | str | Path | Mapping[str, Any]


def head_embeddings(
    source: EmbeddingSource, num_classes: int, vocabulary: Vocabulary | None, width: int
) -> Tensor:
    """Class embeddings as the box head wants them.

    Args:
        source: One of

            - (K + 1, D), background last, as a tensor or nested lists;
            - a ``.safetensors`` file that ``tools/build_class_embeddings.py`` made, background
              included;
            - arguments of :func:`fineclip.models.resolve_class_embeddings`, such as
              ``{"model": name, "pretrained": weights}``: embeddings of the vocabulary, from the
              cache or made now;
            - a torch file with one (D,) vector per class name, "background" among them, as the
              release has it.
        num_classes: K.
        vocabulary: The classes; everything but a tensor needs it.
        width: D.

    Returns:
        (K + 1, D) float32, background last, not normalised.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: No vocabulary where one is needed, a class that is lacking, the wrong number of
            rows or width, or a file that is malformed.
    """
    if isinstance(source, str | Path | Mapping):
        if vocabulary is None:
            raise ValueError("class_embeddings by name need the vocabulary of the box head")
        names = vocabulary.names
        if isinstance(source, Mapping):
            options = {"source": vocabulary, "background": BACKGROUND, **source}
            return resolve_class_embeddings(**options, names=names, width=width).embeddings
        if Path(source).suffix == SUFFIX:
            found = resolve_class_embeddings(
                source, background=BACKGROUND, names=names, width=width
            )
            return found.embeddings
        source = _of_release(source, names)
    rows = torch.as_tensor(source, dtype=torch.float32)
    if rows.shape != (num_classes + 1, width):
        raise ValueError(
            f"class embeddings have the shape {tuple(rows.shape)}, expected "
            f"({num_classes} + 1, {width}): a row per class and one for {BACKGROUND!r} at the end, "
            "as wide as the class branch of the head (fc_out_channels), which must be the width of "
            "the CLIP's embedding"
        )
    return rows


def _of_release(path: str | Path, names: Sequence[str]) -> Tensor:
    content = read_checkpoint(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected one vector per class name")
    wanted = [*names, BACKGROUND]
    if missing := [name for name in wanted if name not in content]:
        raise ValueError(
            f"{path}: no embedding of {len(missing)} classes: {', '.join(missing[:10])}"
        )
    rows: list[Tensor] = []
    for name in wanted:
        try:
            row = torch.as_tensor(content[name]).float().flatten()
        except (TypeError, ValueError, RuntimeError):
            found = type(content[name]).__name__
            raise ValueError(f"{path}: {name}: expected a vector, got {found}") from None
        if rows and row.shape != rows[0].shape:
            raise ValueError(
                f"{path}: {name} has {len(row)} numbers, {wanted[0]} has {len(rows[0])}"
            )
        rows.append(row)
    return torch.stack(rows)


def class_indices(
    classes: Sequence[str | int], num_classes: int, names: Sequence[str] | None = None
) -> list[int]:
    """Indices of classes given by name or index.

    Raises:
        ValueError: A name that is not among ``names``, or an index out of range.
    """
    position = {name: index for index, name in enumerate(names or ())}
    unknown = [
        c
        for c in classes
        if (c not in position if isinstance(c, str) else not 0 <= c < num_classes)
    ]
    if unknown:
        known = f"the first are {', '.join(list(position)[:10])}" if position else "without names"
        raise ValueError(f"unknown classes {unknown}: there are {num_classes}, {known}")
    return [position[c] if isinstance(c, str) else int(c) for c in classes]
