"""Images in a folder per class, as ImageNet has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from fineclip.datasets.transforms import ImageTransform
from fineclip.files import read_json
from fineclip.images import IMAGE_SUFFIXES, UnusableImageError, read_image
from fineclip.text.vocabulary import Category, Vocabulary

HELD_OUT = 4
"""Images of each class that a linear probe is not trained on, to choose its penalty with."""


@dataclass(frozen=True)
class ImageFolder:
    """Images and their classes.

    Args:
        root: Folder of the classes' folders.
        vocabulary: The K candidate classes.
        index_of_folder: Class index of each folder.
        files: (path, class index) of each image, by class and name.
    """

    root: Path
    vocabulary: Vocabulary
    index_of_folder: Mapping[str, int]
    files: tuple[tuple[Path, int], ...]


def find_image_folder(
    data_root: Path,
    split: str | None = None,
    *,
    class_map: Path | None = None,
    vocabulary: Vocabulary | None = None,
    like: ImageFolder | None = None,
) -> ImageFolder:
    """Lists the images of a folder per class.

    Args:
        data_root: Has the folder ``split``, or the classes' folders themselves.
        split: None: ``val`` if there is such a folder, else ``data_root`` itself.
        class_map: File with the name of each folder, see :func:`read_class_map`; None: folders
            are called as their classes.
        vocabulary: Candidate classes, among which each folder's name must be; None: the folders'
            classes, in the order of the folders.
        like: Another part of the data, whose folders and classes count in place of both.

    Raises:
        FileNotFoundError: A folder is missing, or holds no image.
        ValueError: A folder whose name the map, the vocabulary or ``like`` lacks.
    """
    if not data_root.is_dir():
        raise FileNotFoundError(f"data root {data_root} is not a folder")
    root = data_root / (split or "val")
    if split is None and not root.is_dir():
        root = data_root
    if not root.is_dir():
        raise FileNotFoundError(f"{data_root} has no folder {split}/ with a folder for each class")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    found = {folder: _images(folder) for folder in folders}
    found = {folder: images for folder, images in found.items() if images}
    if not found:
        raise FileNotFoundError(
            f"{root} should hold a folder of images for each class, but has none"
        )
    if like is None:
        vocabulary, indices = _classes(
            root, [folder.name for folder in found], class_map, vocabulary
        )
    else:
        vocabulary, indices = like.vocabulary, dict(like.index_of_folder)
        if extra := [folder.name for folder in found if folder.name not in indices]:
            raise ValueError(f"{root} has the folder {extra[0]}/, which {like.root} lacks")
    files = [(image, indices[folder.name]) for folder, images in found.items() for image in images]
    return ImageFolder(root, vocabulary, indices, tuple(files))


def _classes(
    root: Path, folders: Sequence[str], class_map: Path | None, vocabulary: Vocabulary | None
) -> tuple[Vocabulary, dict[str, int]]:
    """The candidate classes, and the class of each folder."""
    names = None if class_map is None else read_class_map(class_map)
    if names is not None and (missing := [name for name in folders if name not in names]):
        raise ValueError(f"--class-map: {class_map} has no name for the folder {missing[0]}/")
    categories = [_category(folder, names) for folder in folders]
    if vocabulary is not None:
        return vocabulary, {
            folder: _place(category, vocabulary, root)
            for folder, category in zip(folders, categories, strict=True)
        }
    # Not checked as names that people write: two of ImageNet's are cranes.
    vocabulary = Vocabulary(root.name, tuple(categories), source=str(root))
    return vocabulary, {folder: index for index, folder in enumerate(folders)}


def read_class_map(file: Path) -> dict[str, tuple[str, ...]]:
    """Names of classes by folder.

    Args:
        file: JSON: an object from each folder to its name or to the list of its names, or from
            numbers to [folder, name]. Or text with a folder and its names a line, separated by
            commas, such as ``n01440764 tench, Tinca tinca``.

    Returns:
        By folder all its names; the first goes into prompts.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Another form; the message names the file and the place.
    """
    if file.suffix.lower() == ".json":
        data = read_json(file, "--class-map")
        if not isinstance(data, Mapping):
            raise ValueError(f"--class-map: {file}: expected an object from folders to names")
        pairs = [_entry(key, value, file) for key, value in data.items()]
    else:
        lines = file.read_text(encoding="utf-8").splitlines()
        split = [line.strip().partition(" ") for line in lines if line.strip()]
        pairs = [(folder, [name.strip() for name in rest.split(",")]) for folder, _, rest in split]
    for folder, names in pairs:
        if not names or not all(isinstance(name, str) and name.strip() for name in names):
            raise ValueError(f"--class-map: {file}: the folder {folder!r} has no name")
    return {folder: tuple(names) for folder, names in pairs}


def _entry(key: str, value: Any, file: Path) -> tuple[str, list[Any]]:
    if isinstance(value, str):
        return key, [value]
    if not isinstance(value, list):
        raise ValueError(f"--class-map: {file}: {key!r}: expected a name or a list of names")
    if key.isdecimal() and len(value) == 2:  # Keras's imagenet_class_index.json
        return str(value[0]), [value[1]]
    return key, value


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)


def _category(folder: str, names: Mapping[str, tuple[str, ...]] | None) -> Category:
    synonyms = (folder,) if names is None else names[folder]
    return Category(name=synonyms[0], synonyms=synonyms)


def _place(category: Category, vocabulary: Vocabulary, root: Path) -> int:
    for index, known in enumerate(vocabulary.categories):
        if category.name == known.name or category.name in known.synonyms:
            return index
    raise ValueError(
        f"the class {category.name!r} of {root} is not in the vocabulary {vocabulary.name!r}; "
        "choose one that has all of them"
    )


class ImageFolderDataset(Dataset):
    """The central square of each image, resized.

    Items are dicts for :func:`fineclip.datasets.evaluation_batch.collate_evaluation` with
    ``image`` (3, S, S) and ``data_sample`` = ``image_id`` (the file) and ``label``. An image that
    cannot be used gives an item with ``skipped`` alone.

    Args:
        files: (path, class index) of each image.
        vocabulary: The classes.
        size: Side S of the input in pixels; bicubic, antialiased, as CLIP was evaluated.
    """

    def __init__(
        self, files: Sequence[tuple[Path, int]], vocabulary: Vocabulary, size: int
    ) -> None:
        self.files = files
        self.vocabulary = vocabulary
        self.transform = ImageTransform(size, "squash", "bicubic")

    @property
    def metainfo(self) -> dict[str, Any]:
        """``vocabulary``, for the metric."""
        return {"vocabulary": self.vocabulary}

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, label = self.files[index]
        try:
            image = read_image(path)
        except UnusableImageError as error:
            return {"skipped": [(error.file, error.reason)]}
        side = min(image.size)
        left, top = ((length - side) / 2 for length in image.size)
        pixels: Tensor = self.transform(image, (left, top, left + side, top + side))
        sample = {"image_id": str(path), "label": label}
        return {"image": pixels, "data_sample": sample, "skipped": []}


@dataclass(frozen=True)
class ShotDraw:
    """The training images of one seed.

    Args:
        train: Files of each class in the order they are taken in.
        held_out: (file, class) of the images that the penalty is chosen with.
    """

    train: tuple[tuple[str, ...], ...]
    held_out: tuple[tuple[str, int], ...]


def draw_shots(folder: ImageFolder, most: int, seed: int) -> ShotDraw:
    """Draws the training images of a linear probe; fewer shots are the first of more.

    Of each class :data:`HELD_OUT` images are kept apart, of small classes a fifth.

    Args:
        folder: The training images.
        most: Shots per class at most.
        seed: Of the draw; a class's depends on it and on the class alone.

    Raises:
        ValueError: A class has too few images.
    """
    by_class: list[list[str]] = [[] for _ in folder.vocabulary.categories]
    for path, label in folder.files:
        by_class[label].append(str(path))
    train, held_out = [], []
    for label, files in enumerate(by_class):
        order = np.random.default_rng((seed, label)).permutation(len(files))
        held = min(HELD_OUT, len(files) // 5)
        rest = order[: len(files) - held]
        if files and len(rest) < most:
            raise ValueError(
                f"few_shot: {folder.root} has {len(files)} images of "
                f"{folder.vocabulary.names[label]!r}, too few for {most} shots and {held} apart "
                "from them to choose the penalty by: choose fewer (--shots)"
            )
        train.append(tuple(files[i] for i in rest[:most]))
        held_out += [(files[i], label) for i in order[len(rest) :]]
    return ShotDraw(tuple(train), tuple(held_out))
