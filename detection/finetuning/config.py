"""The configuration that continues a trained detector on data of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from detection.inference import trained_detector
from fineclip.command_line.described import vocabulary_setting
from fineclip.configuration.recipes import Recipe
from fineclip.datasets.description import DataDescription, SplitFiles
from fineclip.engine import load_config
from fineclip.text import Vocabulary, as_vocabulary
from fineclip.text.joining import joined_vocabulary, reading_of

_DATASET = "OpenVocabularyCocoDataset"

_LEARNED = "roi_head.bbox_head.learned_embeddings"
_LEARNED_RATE = 10.0  # times that of a network: a few unit vectors far from where they have to be


@dataclass(frozen=True)
class StartingDetector:
    """A trained detector as the training has left it.

    Attributes:
        config: Its configuration.
        weights: Its checkpoint.
        vocabulary: The classes it was trained and evaluated with.
    """

    config: Config
    weights: Path
    vocabulary: Vocabulary

    @property
    def training_data(self) -> dict[str, Any]:
        """Config of the data set it was trained on."""
        return self.config.train_dataloader.dataset.to_dict()

    @property
    def evaluation_data(self) -> dict[str, Any]:
        """Config of the data set it is evaluated on."""
        return self.config.test_dataloader.dataset.to_dict()


def read_start(start: str | Path) -> StartingDetector:
    """Reads what a detector is continued from.

    Args:
        start: The work dir of its training, or a checkpoint in it.

    Raises:
        FileNotFoundError: There is none, or no configuration beside it.
        ValueError: It is no F-ViT's.
    """
    file, weights = trained_detector(start)
    config = load_config(file)
    head = config.model.get("roi_head", {}).get("bbox_head", {})
    if config.model.get("type") != "FViT" or not isinstance(head.get("class_embeddings"), dict):
        raise ValueError(f"{file}: expected the configuration of an F-ViT with a text tower")
    vocabulary = head.get("vocabulary") or config.test_dataloader.dataset.get("vocabulary")
    return StartingDetector(config, weights, as_vocabulary(vocabulary))


def described_data(description: DataDescription, split: str) -> dict[str, Any]:
    """Config of the data set of a description's split, without pipeline.

    Raises:
        ValueError: It has no boxes.
        FileNotFoundError: A file does not exist.
    """
    return _of_files(description.require(split, "annotations"))


def _of_files(files: SplitFiles) -> dict[str, Any]:
    return {
        "type": _DATASET,
        "data_root": "",
        "ann_file": str(Path(str(files.annotations)).absolute()),
        "data_prefix": {"img": str(files.images.absolute())},
    }


def continued_config(
    start: StartingDetector,
    own: Vocabulary,
    own_data: Mapping[str, Any],
    recipe: Recipe,
    *,
    seed: int,
    frozen: bool = False,
    rehearsed: Mapping[str, Any] | None = None,
    rehearsed_vocabulary: Vocabulary | None = None,
    share: float = 0.3,
) -> Config:
    """The start's configuration with other data and another schedule.

    The classes are one's own and those of the start, so that it can be asked for both; in the loss
    of an image those alone compete that were labelled in its data set.

    Args:
        start: What is continued.
        own: One's own classes.
        own_data: Config of the training data, see :func:`described_data`.
        recipe: Schedule.
        seed: Of the training.
        frozen: The network stays as it is; what is learned is one embedding for each of one's own
            classes, in place of its words'. Asked for other words, the detector answers as before.
        rehearsed: Config of the data that is gone through again.
        rehearsed_vocabulary: The classes that were labelled in it; None: the start's.
        share: Of images that are of it.
    """
    config = start.config.copy()
    classes = joined_vocabulary(own, start.vocabulary)
    if rehearsed_vocabulary is not None:
        classes = joined_vocabulary(classes, rehearsed_vocabulary)
    own_names = _names_in(classes, own, "base")
    old_names = _names_in(classes, rehearsed_vocabulary or start.vocabulary, "base")
    seen = {*own_names, *(old_names if rehearsed is not None else ())}
    setting = vocabulary_setting(classes)
    common = {
        "vocabulary": setting,
        "base_only": True,
        "seed": seed,
        "filter_cfg": {"filter_empty_gt": True, "min_size": 8},
        "pipeline": config.train_dataloader.dataset.pipeline,
    }
    dataset = {**own_data, **common, "labelled": own_names}
    if rehearsed is not None:
        dataset = {
            "type": "RehearsedDataset",
            "dataset": dataset,
            "rehearsed": {**rehearsed, **common, "labelled": old_names},
            "share": share,
            "seed": seed,
        }
    config.train_dataloader.dataset = dataset
    config.train_dataloader.sampler.seed = seed
    config.train_dataloader.batch_size = recipe.batch_size
    head = config.model.roi_head.bbox_head
    head.pop("num_classes", None)
    head.pop("novel_classes", None)
    head.update(vocabulary=setting, keep_vocabulary=True)
    weights = [float(name in seen) for name in classes.names]
    head.loss_cls.class_weight = [*weights, head.loss_cls.get("bg_weight", 1.0)]
    config.model.backbone.pretrained = None  # the start's weights have it
    config.model.norm_eval = True  # a few images are no statistics
    if frozen:
        head.learned_classes = own_names
        config.model.trained_parts = [_LEARNED]
        recipe = replace(recipe, lr=_LEARNED_RATE * recipe.lr)
    config.test_dataloader.dataset.vocabulary = setting  # labels are those of the head
    config.load_from = str(start.weights)
    config.resume = False
    config.randomness = {"seed": seed}
    _set_schedule(config, recipe)
    return config


def _set_schedule(config: Config, recipe: Recipe) -> None:
    config.train_cfg.update(max_epochs=recipe.epochs, val_interval=recipe.epochs)
    config.optim_wrapper.optimizer.lr = recipe.lr
    config.auto_scale_lr = {"enable": False}
    config.param_scheduler = [
        {
            "type": "LinearLR",
            "start_factor": 0.001,
            "by_epoch": False,
            "begin": 0,
            "end": max(recipe.warmup_steps, 2),
        },
        {
            "type": "CosineAnnealingLR",
            "by_epoch": True,
            "begin": 0,
            "end": recipe.epochs,
            "T_max": recipe.epochs,
            "convert_to_iter_based": True,
        },
    ]
    config.default_hooks.checkpoint.update(interval=1, by_epoch=True, max_keep_ckpts=1)
    config.val_cfg = config.val_dataloader = config.val_evaluator = None


def _names_in(classes: Vocabulary, part: Vocabulary, split: str) -> list[str]:
    """The classes of a split, as a vocabulary writes them, that are among those of another."""
    readings = {reading_of(category) for category in part.categories}
    return [
        category.name
        for category in classes.categories
        if category.split == split and reading_of(category) in readings
    ]
