"""The benchmarks in detectron2's catalogs."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from fineclip.datasets.label_pairs import list_pairs
from fineclip.datasets.segmentation_benchmarks import (
    BENCHMARKS,
    Benchmark,
    default_root,
    joined_names,
)
from fineclip.text import Vocabulary, load_vocabulary
from segmentation.data.registered import RegisteredSet, registered_set
from segmentation.data.seen_classes import readings, seen_classes


def dataset_names() -> tuple[str, ...]:
    """Names of all data sets that :func:`register_datasets` registers."""
    return tuple(benchmark.name for benchmark in BENCHMARKS)


def register_datasets(root: str | Path | None = None) -> None:
    """Registers every benchmark with detectron2; nothing is read before a data set is asked for.

    A second call with another root moves the data sets there. A process started afresh (multi-GPU
    training) has the root of the environment again until it calls this itself.

    Metadata of each: ``stuff_classes``, ``ignore_label``, ``evaluator_type`` "sem_seg",
    ``image_root``, ``sem_seg_root``; ``seen_classes``, those of ``stuff_classes`` that models are
    trained with (COCO-Stuff's, or the base classes of the scenes); ``prompt_classes``, the names
    to ask a model for, in the order of ``stuff_classes``; and where there is a background its index
    ``background_class``: this class of the prompts and all after it are the background.

    Args:
        root: Folder of data sets; None: :func:`default_root`.
    """
    root = default_root() if root is None else Path(root).expanduser()
    for benchmark in BENCHMARKS:
        name = benchmark.name
        folders = {
            "image_root": str(root / benchmark.images),
            "sem_seg_root": str(root / benchmark.labels),
        }
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            # A value of metadata can be set once only.
            MetadataCatalog.pop(name, None)
        DatasetCatalog.register(name, functools.partial(load_benchmark, benchmark, root))
        MetadataCatalog.get(name).set(**folders, **_metadata(benchmark))


def load_benchmark(benchmark: Benchmark, root: Path) -> list[dict[str, Any]]:
    """Lists the images of a benchmark.

    Args:
        benchmark: Which one.
        root: Folder of data sets.

    Returns:
        One dict per image: ``file_name``, ``sem_seg_file_name`` and, where values of the label
        maps are not the classes, ``label_map`` (see
        :func:`fineclip.datasets.label_maps.read_label_map`).

    Raises:
        FileNotFoundError: A folder or file is missing; the message names it and the tool that
            makes it.
    """
    records = list_pairs(
        root / benchmark.images,
        root / benchmark.labels,
        label_suffix=benchmark.label_suffix,
        complete=benchmark.complete,
        name=f"data set {benchmark.name}",
        advice=(
            f"; tools/{benchmark.made_by} makes the label maps, and its --help says what belongs "
            f"where below the folder of data sets, {root} (environment variable "
            "DETECTRON2_DATASETS)"
        ),
    )
    if benchmark.label_map is not None:
        records = [{**record, "label_map": benchmark.label_map} for record in records]
    return records


def _metadata(benchmark: Benchmark) -> Mapping[str, Any]:
    """What detectron2's ``MetadataCatalog`` says besides folders."""
    names = benchmark.class_names
    seen = seen_classes(names, joined_names(benchmark.training_vocabulary))
    prompts = benchmark.prompt_vocabulary or benchmark.vocabulary
    metadata = {
        "stuff_classes": list(names),
        "prompt_classes": list(joined_names(prompts)),
        "ignore_label": benchmark.ignore_label,
        "evaluator_type": "sem_seg",
        # Of stuff_classes, those that the training vocabulary names.
        "seen_classes": list(itertools.compress(names, seen)),
    }
    if benchmark.background is not None:
        # Predictions of this class and all after it are one class.
        metadata["background_class"] = len(names) - 1
    return metadata


def check_class_lists(cfg: CfgNode, parts: Sequence[str] = ("TRAIN", "TEST")) -> None:
    """Checks that a configuration's class lists and data sets belong together.

    Args:
        cfg: ``MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON`` must have as many names as each of
            ``DATASETS.TRAIN`` has classes (where it is empty, they have the same ones),
            ``TEST_CLASS_JSON`` as each of ``DATASETS.TEST`` (at least as many as come before a
            background class where there is one), and ``IGNORE_VALUE`` must be the training sets'
            ignore label. Wording is free, but a name of the data set must stand at its own place.
        parts: What to check.

    Raises:
        ValueError: They do not, or a data set is not registered, or without classes; the message
            names the list and the data set.
        FileNotFoundError: A class list that does not exist.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    for part in parts:
        source = head[f"{part}_CLASS_JSON"]
        sets = [registered_set(name, f"DATASETS.{part}") for name in cfg.DATASETS[part]]
        if part == "TRAIN":
            for found in sets:
                _check_ignored(found, head.IGNORE_VALUE)
        if source:
            classes = load_vocabulary(source)
            where = f"MODEL.SEM_SEG_HEAD.{part}_CLASS_JSON: {source}"
            for found in sets:
                _check_list(classes, found, where, f"DATASETS.{part}")
        else:
            _check_alike(sets, part)


def rehearsed_sets(cfg: CfgNode) -> tuple[str, ...]:
    """The data set of ``DATASETS.REHEARSE``, if there is one.

    Raises:
        ValueError: There are several, or it is not registered, or ignores pixels by another label
            than ``IGNORE_VALUE``.
    """
    names = tuple(cfg.DATASETS.REHEARSE)
    if len(names) > 1:
        raise ValueError(f"DATASETS.REHEARSE: expected one data set, got {', '.join(names)}")
    for name in names:
        found = registered_set(name, "DATASETS.REHEARSE")
        _check_ignored(found, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE)
    return names


def _check_ignored(found: RegisteredSet, ignore_value: int) -> None:
    if found.ignore_label != ignore_value:
        raise ValueError(
            f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE is {ignore_value}, but data set {found.name} marks "
            f"ignored pixels with {found.ignore_label}: set it to that"
        )


def _check_list(classes: Vocabulary, found: RegisteredSet, where: str, key: str) -> None:
    """A list has the classes of a data set, at their places."""
    expected, background = len(found.class_names), found.background
    if len(classes) != expected and (background is None or len(classes) < background):
        raise ValueError(
            f"{where} has {len(classes)} names, data set {found.name} of {key} has {expected} "
            f"classes ({found.class_names[0]!r} to {found.class_names[-1]!r}); name the list that "
            "belongs to it"
        )
    if swapped := _misplaced(classes, found.class_names[:background]):
        place, right = swapped[0]
        raise ValueError(
            f"{where} has {len(swapped)} names of data set {found.name} in another order: "
            f"{classes.names[place]!r} is number {place + 1} of the list and class {right + 1} of "
            "the data set, whose label maps count classes by place; put the list in the data "
            "set's order"
        )


def _check_alike(sets: Sequence[RegisteredSet], part: str) -> None:
    """Without a list, data sets that are trained on together have the same classes."""
    for found in sets[1:]:
        if found.class_names != sets[0].class_names:
            raise ValueError(
                f"DATASETS.{part}: {sets[0].name} and {found.name} have other classes, and "
                f"MODEL.SEM_SEG_HEAD.{part}_CLASS_JSON names no list that both have; "
                "DATASETS.REHEARSE takes a second data set with its own classes"
            )


def _misplaced(classes: Vocabulary, expected: Sequence[str]) -> list[tuple[int, int]]:
    """Places of names that are those of other classes, and the places of these."""
    place_of = {reading: i for i, name in enumerate(expected) for reading in readings(name)}
    found = []
    for i, (synonyms, own) in enumerate(zip(classes.synonyms, expected, strict=False)):
        listed = readings(", ".join(synonyms))
        elsewhere = [place_of[reading] for reading in sorted(listed) if reading in place_of]
        if elsewhere and listed.isdisjoint(readings(own)):
            found.append((i, elsewhere[0]))
    return found
