"""``--data FILE``: a described data set, and the recipe for its size, in a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from fineclip.configuration.recipes import recipe_for
from fineclip.datasets.description import DataDescription
from fineclip.weights import config_beside
from segmentation.data.described import register_described, set_name
from segmentation.engine.config import load_config

# What a segmenter was trained to do; the rest of its configuration is about its training.
_OF_THE_NETWORK = ("MODEL", "INPUT", "TEST")
_OF_THE_START = ("WEIGHTS", "DEVICE")
_OF_ITS_TRAINING = (
    *("TRAIN_CLASS_JSON", "TEST_CLASS_JSON", "NUM_CLASSES", "IGNORE_VALUE", "CLIP_FINETUNE"),
    "IGNORED_AS_NEGATIVES",
)


def described_config(
    file: str | Path,
    data: str | Path,
    options: Sequence[str] = (),
    *,
    train: bool = True,
    processes: int = 1,
) -> tuple[CfgNode, tuple[str, ...]]:
    """Reads a configuration and puts a described data set into it.

    Of a configuration with ``RECIPE``, the schedule follows from the number of training images; and
    where ``MODEL.WEIGHTS`` is a segmenter of ours, network and input are those of the
    ``config.yaml`` beside it.

    Args:
        file: A configuration.
        data: A ``data.yaml``, or a folder that holds one.
        options: Alternating keys and values, which stand above what is derived.
        train: Whether there will be training.
        processes: On all machines.

    Returns:
        The configuration, and what the user should be told.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: Malformed files, or a description without label maps.
    """
    file_of_data = Path(data).absolute()
    (description,) = register_described([file_of_data])
    lines: list[str] = []

    def adapt(cfg: CfgNode) -> None:
        if cfg.RECIPE:
            lines.extend(_take_recipe(cfg, description, options, processes))
        _take_data(cfg, description, train)

    taken = [key for key in options[::2] if key in ("DATASETS.TRAIN", "DATASETS.TEST")]
    if taken:
        raise ValueError(f"{taken[0]}: --data {data} says this already; leave one of the two out")
    return load_config(file, options, adapt), tuple(lines)


def _take_data(cfg: CfgNode, description: DataDescription, train: bool) -> None:
    head = cfg.MODEL.SEM_SEG_HEAD
    cfg.DATASETS.DESCRIPTIONS = [str(description.file)]
    cfg.DATASETS.TRAIN = ()
    if train:
        description.require("train", "masks")
        cfg.DATASETS.TRAIN = (set_name(description, "train"),)
        head.NUM_CLASSES = len(description.vocabulary.indices("base") or description.vocabulary)
    head.TRAIN_CLASS_JSON = head.TEST_CLASS_JSON = ""  # the data sets' own
    head.IGNORE_VALUE = description.ignore_label
    cfg.DATASETS.TEST = ()
    if not train or {"val", "test"} & description.splits.keys():
        split = description.evaluation_split
        description.require(split, "masks")
        cfg.DATASETS.TEST = (set_name(description, split),)


def _take_recipe(
    cfg: CfgNode, description: DataDescription, options: Sequence[str], processes: int
) -> list[str]:
    given = dict(zip(options[::2], options[1::2], strict=False))
    weights = given.get("MODEL.WEIGHTS") or cfg.MODEL.WEIGHTS
    beside = config_beside(weights) if weights else None
    rate = None
    if beside is not None:
        start = load_config(beside)
        rate = start.SOLVER.BASE_LR
        for section in _OF_THE_NETWORK:
            _take(cfg[section], start[section], _OF_THE_START)
    description.require("train", "masks")
    images = len(DatasetCatalog.get(set_name(description, "train")))
    recipe = recipe_for(images, "segmentation", trained=bool(weights), lr=rate, processes=processes)
    for key, value in recipe.solver().items():
        section, name = key.split(".")
        cfg[section][name] = value
    return [recipe.said(given)]


def _take(node: CfgNode, other: CfgNode, but: Sequence[str]) -> None:
    """Sets what another configuration says of a section."""
    for key, value in other.items():
        if key in but or key in _OF_ITS_TRAINING:
            continue
        if isinstance(value, CfgNode):
            _take(node[key], value, ())
        else:
            node[key] = value
