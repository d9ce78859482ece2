"""Images with all their captions, for image-text retrieval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from fineclip.annotations import (
    FileReport,
    announce,
    audit_caption_list,
    audit_captions,
    read_audited,
)
from fineclip.datasets.files import require_some_image
from fineclip.datasets.transforms import ImageTransform, as_transform
from fineclip.files import require_folder
from fineclip.images import UnusableImageError, read_image
from fineclip.paths import inside
from fineclip.registry import DATASETS
from fineclip.text.tokenizers import Tokenizer, get_tokenizer


@DATASETS.register_module()
class RetrievalDataset(Dataset):
    """Every image of a caption file with all its captions, tokenised as they are written.

    Items are dicts for :func:`fineclip.datasets.evaluation_batch.collate_evaluation` with
    ``texts`` (m, T) int64 and ``data_sample`` = ``image_id``, ``file_name``, ``captions`` (the m
    strings). Images without a caption stay (m = 0): they are candidates for every text. An image
    that cannot be decoded gives an item with ``skipped`` alone; its captions are left out with it.

    Args:
        captions: COCO captions JSON (``images``, ``annotations`` with ``image_id`` and
            ``caption``), or a list, or a JSON file of one, of
            ``{"image": file name, "caption": string or list of strings}``. Entries of the list
            that name the same image are joined.
        image_root: Folder of the images.
        transform: Geometry of the network input, or a dict of its arguments.
        tokenizer: Maps a list of strings to (n, T) int64 tokens, or an open_clip model name whose
            tokenizer is taken.
        context_length: Text tokens T of a tokenizer taken by name; None: the model's own.

    Raises:
        FileNotFoundError: A missing file or folder, or none of the images in ``image_root``.
        ValueError: A malformed caption file, or one without any caption.
        TypeError: ``captions`` or ``transform`` of another type.
    """

    def __init__(
        self,
        captions: str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]],
        image_root: str | Path,
        *,
        transform: ImageTransform | Mapping[str, Any],
        tokenizer: str | Tokenizer,
        context_length: int | None = None,
    ) -> None:
        self.transform = as_transform(transform)
        where = str(captions) if isinstance(captions, str | Path) else "captions"
        if not isinstance(captions, str | Path | Mapping | Sequence):
            kind = type(captions).__name__
            raise TypeError(f"{where}: expected a mapping or a list, got {kind}")
        if isinstance(captions, str | Path):
            self.images, report = read_audited(captions, "captions", _from_any)
        else:
            self.images, report = _from_any(deepcopy(captions), where)
        report.raise_if_refused()
        announce(report)
        self.image_root = require_folder(image_root, "images")
        if not any(texts for _, _, texts in self.images):
            raise ValueError(f"{where}: no image has a caption")
        require_some_image(self.image_root, [file for _, file, _ in self.images], where)
        if isinstance(tokenizer, str):
            tokenizer = get_tokenizer(tokenizer, context_length)
        self.tokenizer = tokenizer

    @cached_property
    def metainfo(self) -> dict[str, Any]:
        """Nothing a metric needs; mmengine asks for it."""
        return {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image_id, file_name, captions = self.images[index]
        try:
            pixels = read_image(inside(self.image_root, file_name))
        except UnusableImageError as error:
            return {"skipped": [(error.file, error.reason)]}
        # Without captions the rows are cut off again; the width T stays the tokenizer's.
        tokens = self.tokenizer(list(captions) or [""])[: len(captions)]
        return {
            "image": self.transform(pixels),
            "texts": tokens.to(torch.int64),
            "data_sample": {"image_id": image_id, "file_name": file_name, "captions": captions},
            "skipped": [],
        }


_Entry = tuple[int | str, str, tuple[str, ...]]


def _from_any(data: Any, where: str) -> tuple[list[_Entry], FileReport]:
    """(image id, file name, captions) of either form of a caption file, in its order."""
    if isinstance(data, Sequence) and not isinstance(data, str):
        found, report = audit_caption_list(data, where)
        return [(file, file, tuple(texts)) for file, texts in found.items()], report
    captions, report = audit_captions(data, where, images=True)
    images = captions.images.items()
    return [(id_, file, tuple(captions.by_image.get(id_, ()))) for id_, file in images], report
