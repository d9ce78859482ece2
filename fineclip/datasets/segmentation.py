"""Images with a label for every pixel, for zero-shot segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from fineclip.datasets.label_pairs import list_pairs
from fineclip.datasets.segmentation_benchmarks import BENCHMARKS
from fineclip.datasets.views import ViewCutter
from fineclip.images import IMAGE_SUFFIXES, UnusableImageError, read_image
from fineclip.text.vocabulary import Vocabulary, load_vocabulary

_ADVICE = "; tools/prepare.py (or make_scenes.py) makes the label maps of the benchmarks"

SEGMENTATION_SETS = {
    "ade150": "ade20k_150_test_sem_seg",
    "ade847": "ade20k_full_sem_seg_freq_val_all",
    "coco-stuff": "coco_2017_test_stuff_all_sem_seg",
    "pc59": "context_59_test_sem_seg",
    "pc459": "context_459_test_sem_seg",
    "scenes": "scenes_val_sem_seg",
    "voc20": "voc_2012_test_sem_seg",
    "voc21": "voc_2012_test_background_sem_seg",
}
"""Names on the command line, and those of :data:`BENCHMARKS`."""


@dataclass(frozen=True)
class LabelledImages:
    """Files and classes of a data set.

    Args:
        name: What messages call it.
        pairs: Image and label map of each image.
        num_classes: Classes of the label maps, the background included.
        prompts: For each class that is asked for its names, whose prompts are averaged. As many
            as ``num_classes``; with a background, at least one less.
        ignore_label: Label of pixels that do not count.
        label_map: Class of each value of the label maps; None: values are classes.
        background: Class that stands for itself and all of ``prompts`` after it; None: none does.
    """

    name: str
    pairs: tuple[tuple[Path, Path], ...]
    num_classes: int
    prompts: tuple[tuple[str, ...], ...]
    ignore_label: int = 255
    label_map: tuple[int, ...] | None = None
    background: int | None = None


def find_benchmark(name: str, root: Path) -> LabelledImages:
    """A benchmark in the folders in which tools/prepare.py leaves it.

    Args:
        name: One of :data:`SEGMENTATION_SETS`.
        root: Folder of data sets.

    Raises:
        ValueError: Unknown name.
        FileNotFoundError: A folder or file is missing.
    """
    if name not in SEGMENTATION_SETS:
        known = ", ".join(SEGMENTATION_SETS)
        raise ValueError(f"unknown segmentation set {name!r}; known: {known}")
    benchmark = next(b for b in BENCHMARKS if b.name == SEGMENTATION_SETS[name])
    pairs = list_pairs(
        root / benchmark.images,
        root / benchmark.labels,
        label_suffix=benchmark.label_suffix,
        complete=benchmark.complete,
        name=f"data set {name}",
        advice=f"; tools/{benchmark.made_by} makes the label maps below {root}",
    )
    classes = len(benchmark.class_names)
    return LabelledImages(
        name=name,
        pairs=_paths(pairs),
        num_classes=classes,
        prompts=load_vocabulary(benchmark.prompt_vocabulary or benchmark.vocabulary).synonyms,
        ignore_label=benchmark.ignore_label,
        label_map=benchmark.label_map,
        background=None if benchmark.background is None else classes - 1,
    )


def find_label_maps(
    image_root: Path, label_root: Path, vocabulary: Vocabulary, ignore_label: int = 255
) -> LabelledImages:
    """A folder of images and one of label maps of the same names.

    Args:
        image_root: Images, of any format; those without a label map are left out.
        label_root: PNG or TIFF of one integer channel, one suffix; values are places in the
            vocabulary.
        vocabulary: The classes.
        ignore_label: Value of pixels that do not count.

    Raises:
        FileNotFoundError: A folder or file is missing.
    """
    pairs = list_pairs(
        image_root,
        label_root,
        image_suffix=None,
        label_suffix=_suffix(label_root, "label maps"),
        complete=False,
        name="segmentation",
        advice=_ADVICE,
    )
    return LabelledImages(
        name=str(label_root),
        pairs=_paths(pairs),
        num_classes=len(vocabulary),
        prompts=vocabulary.synonyms,
        ignore_label=ignore_label,
    )


def _suffix(folder: Path, what: str) -> str:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"segmentation: folder {folder} should hold the {what}, but does not exist{_ADVICE}"
        )
    suffixes = (p.suffix for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    return min(suffixes, default=".png")


def _paths(pairs: list[dict[str, Any]]) -> tuple[tuple[Path, Path], ...]:
    return tuple((Path(p["file_name"]), Path(p["sem_seg_file_name"])) for p in pairs)


class SegmentationDataset(Dataset):
    """The views of images whose pixels are to be labelled.

    Items are dicts for :func:`fineclip.datasets.evaluation_batch.collate_evaluation` with
    ``image`` (v, 3, S, S) and ``data_sample`` = ``image_id`` (the image file), ``label_file``,
    ``image_size`` (height, width) and ``views`` (:class:`fineclip.datasets.views.Views`). Label
    maps are read by the metric. An image that cannot be used gives an item with ``skipped`` alone.

    Args:
        files: The images.
        cut: Makes the inputs of an image.
    """

    def __init__(self, files: LabelledImages, cut: ViewCutter) -> None:
        self.files = files
        self.cut = cut

    def __len__(self) -> int:
        return len(self.files.pairs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, labels = self.files.pairs[index]
        try:
            pixels = read_image(image)
            inputs, views = self.cut(pixels)
        except UnusableImageError as error:
            return {"skipped": [(error.file, error.reason)]}
        sample: dict[str, Any] = {"image_id": str(image), "label_file": str(labels), "views": views}
        sample["image_size"] = (pixels.height, pixels.width)
        return {"image": inputs, "data_sample": sample, "skipped": []}
