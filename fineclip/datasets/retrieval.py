"""Images with all their captions, for image-text retrieval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from fineclip.datasets.files import require_folder, require_some_image
from fineclip.datasets.transforms import ImageTransform, as_transform
from fineclip.files import read_json, require_keys
from fineclip.images import UnusableImageError, read_image
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
        data = read_json(captions, "captions") if isinstance(captions, str | Path) else captions
        self.image_root = require_folder(image_root, "images")
        if isinstance(data, Mapping):
            self.images = _from_coco(data, where)
        elif isinstance(data, Sequence):
            self.images = _from_list(data, where)
        else:
            raise TypeError(f"{where}: expected a mapping or a list, got {type(data).__name__}")
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
            pixels = read_image(self.image_root / file_name)
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


def _from_coco(data: Mapping[str, Any], where: str) -> list[_Entry]:
    """(image id, file name, captions) in the order of ``images``."""
    require_keys(data, ("images", "annotations"), where)
    captions: dict[Any, list[str]] = {}
    files: dict[Any, str] = {}
    for index, image in enumerate(data["images"]):
        require_keys(image, ("id", "file_name"), f"{where}: images[{index}]")
        files[image["id"]] = image["file_name"]
        captions[image["id"]] = []
    for index, annotation in enumerate(data["annotations"]):
        place = f"{where}: annotations[{index}]"
        require_keys(annotation, ("image_id", "caption"), place)
        if annotation["image_id"] not in captions:
            raise ValueError(f"{place}: image_id {annotation['image_id']} is not among 'images'")
        captions[annotation["image_id"]].append(_text(annotation["caption"], place))
    return [(image_id, files[image_id], tuple(captions[image_id])) for image_id in files]


def _from_list(data: Sequence[Any], where: str) -> list[_Entry]:
    """(file name as image id, file name, captions) in the order of first appearance."""
    captions: dict[str, list[str]] = {}
    for index, entry in enumerate(data):
        place = f"{where}[{index}]"
        require_keys(entry, ("image", "caption"), place)
        texts = entry["caption"]
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(entry["image"], str) or not isinstance(texts, Sequence):
            raise ValueError(f"{place}: expected a file name and one or several captions")
        captions.setdefault(entry["image"], []).extend(_text(text, place) for text in texts)
    return [(file, file, tuple(texts)) for file, texts in captions.items()]


def _text(caption: Any, place: str) -> str:
    if not isinstance(caption, str):
        raise ValueError(f"{place}: 'caption' must be a string, got {caption!r}")
    return caption
