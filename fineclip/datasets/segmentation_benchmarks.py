"""Segmentation benchmarks, as CAT-Seg's release has them: folders, classes, ignore labels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fineclip.text import load_vocabulary


def default_root() -> Path:
    """Where data sets lie: ``$DETECTRON2_DATASETS``, or ``datasets`` below the current folder."""
    return Path(os.environ.get("DETECTRON2_DATASETS", "datasets")).expanduser()


@dataclass(frozen=True)
class Benchmark:
    """One data set.

    Args:
        name: In detectron2's catalogs.
        images: Folder of images, below the root of data sets.
        labels: Folder of label maps, below the root of data sets.
        vocabulary: Its classes, a vocabulary of :mod:`fineclip.text`.
        made_by: Command that makes the label maps.
        ignore_label: Label of pixels without a class.
        label_suffix: Of the label maps.
        complete: Every image of the folder has a label map.
        training_vocabulary: What models are trained with that are evaluated here.
        background: A class after those of the vocabulary, which stands for it and whatever a
            prediction names after it; or None.
        prompt_vocabulary: What models are asked for, where that is not ``vocabulary``.
        stored_vocabulary: Classes that the label maps hold, where they hold more than those of
            ``vocabulary``; the others are ignored.
    """

    name: str
    images: str
    labels: str
    vocabulary: str
    made_by: str
    ignore_label: int = 255
    label_suffix: str = ".png"
    complete: bool = True
    training_vocabulary: str = "coco_stuff171"
    background: str | None = None
    prompt_vocabulary: str | None = None
    stored_vocabulary: str | None = None

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """The classes; synonyms are joined by ", ", for names alone may repeat (ADE20K-847)."""
        names = joined_names(self.vocabulary)
        return names if self.background is None else (*names, self.background)

    @cached_property
    def label_map(self) -> tuple[int, ...] | None:
        """Class of each value of the label maps; None: values are classes."""
        if self.stored_vocabulary is None:
            return None
        index_of_id = load_vocabulary(self.vocabulary).index_of_id
        stored = load_vocabulary(self.stored_vocabulary)
        return tuple(index_of_id.get(id_, self.ignore_label) for id_ in stored.required_ids)


def joined_names(vocabulary: str) -> tuple[str, ...]:
    """The classes of a vocabulary, the synonyms of each joined by ", "."""
    return tuple(", ".join(synonyms) for synonyms in load_vocabulary(vocabulary).synonyms)


_COCO = "prepare.py coco-stuff"
_CONTEXT = "VOCdevkit/VOC2010"
_VOC = "VOCdevkit/VOC2012"

BENCHMARKS: tuple[Benchmark, ...] = (
    Benchmark(
        "coco_2017_train_stuff_all_sem_seg",
        "coco-stuff/images/train2017",
        "coco-stuff/annotations_detectron2/train2017",
        "coco_stuff171",
        _COCO,
    ),
    Benchmark(
        "coco_2017_test_stuff_all_sem_seg",
        "coco-stuff/images/val2017",
        "coco-stuff/annotations_detectron2/val2017",
        "coco_stuff171",
        _COCO,
    ),
    Benchmark(
        "ade20k_150_test_sem_seg",
        "ADEChallengeData2016/images/validation",
        "ADEChallengeData2016/annotations_detectron2/validation",
        "ade150",
        "prepare.py ade20k-150",
    ),
    Benchmark(
        "ade20k_full_sem_seg_freq_val_all",
        "ADE20K_2021_17_01/images_detectron2/validation",
        "ADE20K_2021_17_01/annotations_detectron2/validation",
        "ade847",
        "prepare.py ade20k-847",
        ignore_label=65535,
        label_suffix=".tif",
    ),
    Benchmark(
        "context_59_test_sem_seg",
        f"{_CONTEXT}/JPEGImages",
        f"{_CONTEXT}/annotations_detectron2/pc59_val",
        "pc59",
        "prepare.py pascal-context",
        complete=False,
    ),
    Benchmark(
        "context_459_test_sem_seg",
        f"{_CONTEXT}/JPEGImages",
        f"{_CONTEXT}/annotations_detectron2/pc459_val",
        "pc459",
        "prepare.py pascal-context",
        ignore_label=459,
        label_suffix=".tif",
        complete=False,
    ),
    Benchmark(
        "voc_2012_test_sem_seg",
        f"{_VOC}/JPEGImages",
        f"{_VOC}/annotations_detectron2/val",
        "voc20",
        "prepare.py voc20",
        complete=False,
    ),
    Benchmark(
        "voc_2012_test_background_sem_seg",
        f"{_VOC}/JPEGImages",
        f"{_VOC}/annotations_detectron2_bg/val",
        "voc20",
        "prepare.py voc20",
        complete=False,
        background="background",
        prompt_vocabulary="voc20b",
    ),
    Benchmark(
        "scenes_train_base_sem_seg",
        "scenes/train",
        "scenes/annotations/semantic_train",
        "scenes_base",
        "make_scenes.py",
        training_vocabulary="scenes_base",
        stored_vocabulary="scenes",
    ),
    Benchmark(
        "scenes_val_sem_seg",
        "scenes/val",
        "scenes/annotations/semantic_val",
        "scenes",
        "make_scenes.py",
        training_vocabulary="scenes_base",
    ),
)
"""Those of CAT-Seg's release, and the built-in scenes."""
