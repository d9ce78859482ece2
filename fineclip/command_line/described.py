"""``--data FILE``: a described data set as overrides of a config of pretraining or detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from fineclip.annotations import file_name_of, read_boxes
from fineclip.command_line.images import list_images
from fineclip.command_line.starts import start_options
from fineclip.configuration.overrides import OPTION
from fineclip.configuration.reading import read_config, top_level_values
from fineclip.configuration.recipes import recipe_for
from fineclip.datasets.description import DataDescription, SplitFiles, read_description
from fineclip.paths import inside
from fineclip.text.vocabulary import Vocabulary

_OF_THE_DATA = (
    *("data_root", "val_root", "train_annotations", "val_annotations", "train_prefix"),
    *("val_prefix", "dataset_type", "metric_type", "annotations", "captions", "region_captions"),
    *("train_split", "val_split", "shards", "vocabulary"),
)
"""Variables of configs that say what a description says."""

_COCO = ("OpenVocabularyCocoDataset", "OpenVocabularyLVISDataset")
_REPLACE = {"_delete_": True}  # mmengine's word for: not merged with what is there


@dataclass(frozen=True)
class DescribedRun:
    """A description in the words of a config.

    Attributes:
        options: Overrides for :func:`fineclip.engine.load_config`, the command line's included.
        lines: What the user should be told: how a recipe has decided.
    """

    options: dict[str, Any]
    lines: tuple[str, ...] = ()


def described_run(
    config: str | Path,
    data: str | Path,
    options: Mapping[str, Any] | None = None,
    *,
    parts: Sequence[str] = ("train", "val"),
    split: str | None = None,
    processes: int = 1,
) -> DescribedRun:
    """Reads the description of a data set and says it in the words of a config.

    Boxes of novel classes are left out of training, and count in evaluation. Evaluations whose
    files the description lacks are left out.

    Args:
        config: A config of pretraining or detection, or the ``plain_config.json`` of a training.
        data: A ``data.yaml``, or a folder that holds one.
        options: Overrides of the command line, which stand above what is derived.
        parts: Which data are needed: some of "train", "val" and "test".
        split: Which part of the data is evaluated on; None: ``val``, or ``test`` without one.
        processes: Of the training.

    Returns:
        The overrides. Files are absolute, so that what a run keeps of them holds anywhere.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: Malformed files, a key that is missing for this config, a config that does not
            take a description, or an override that says the same.
    """
    given = dict(options or {})
    description = read_description(data)
    known = top_level_values(config)
    if taken := [key for key in _OF_THE_DATA if key in given]:
        raise ValueError(
            f"{OPTION} {taken[0]}: --data {data} says this already; leave one of the two out"
        )
    training = "train" in parts
    evaluated = _evaluated(description, split, training)
    source = description.splits.get("train") or evaluated
    if training or source is None or source.annotations is None:
        source = description.require("train", "annotations")
    found = {
        "data_root": str(description.file.absolute().parent),
        "vocabulary": vocabulary_setting(description.vocabulary),
    }
    settings = {key: value for key, value in found.items() if key in known}
    lines: tuple[str, ...] = ()
    if "recipe" in known and Path(config).suffix == ".py":
        recipe, lines = _recipe(known, given, source, processes)
        settings |= recipe
    finished = read_config(config, {**settings, **given})
    kind = (finished.get("model") or {}).get("type")
    if kind == "FViT":
        settings |= _detection(finished, description, evaluated, training)
    elif kind == "FineCLIPPretrainer":
        settings |= _pretraining(finished, description, evaluated, training)
    else:
        raise ValueError(f"config {config}: its model {kind!r} does not go with --data")
    if Path(config).suffix == ".json":  # has no variables, which replace what is there
        settings = {
            key: {**_REPLACE, **value} if isinstance(value, dict) and "." not in key else value
            for key, value in settings.items()
        }
    return DescribedRun({**settings, **given}, lines)


def described_images(files: SplitFiles, number: int) -> list[Path]:
    """The first images of a split: of its annotations, and without these of its folder.

    Args:
        files: The split of a description.
        number: How many.

    Raises:
        ValueError: There is none, or the annotations are malformed.
    """
    if files.annotations is None:
        return list_images([files.images])[:number]
    data, _ = read_boxes(files.annotations, labelled=False)
    return [inside(files.images, file_name_of(image)) for image in data["images"][:number]]


def vocabulary_setting(vocabulary: Vocabulary) -> dict[str, Any]:
    """A vocabulary as a config holds it: plain values, which need no file beside them.

    What its data sets leave out stays left out.
    """
    categories = []
    for category in vocabulary.categories:
        entry: dict[str, Any] = {"name": category.name}
        if category.synonyms != (category.name,):
            entry["synonyms"] = list(category.synonyms)
        if category.split is not None:
            entry["split"] = category.split
        categories.append(entry)
    unused = [{"name": category.name} for category in vocabulary.unused]
    return {"name": vocabulary.name, "categories": categories, "unused_categories": unused}


def _file(path: Path | None) -> str:
    return "none" if path is None else str(path.absolute())


def _evaluated(
    description: DataDescription, split: str | None, training: bool
) -> SplitFiles | None:
    """Files that are evaluated on; None where a training does without."""
    if split is None and training and not {"val", "test"} & description.splits.keys():
        return None
    return description.require(split or description.evaluation_split)


def _recipe(
    known: Mapping[str, Any], given: Mapping[str, Any], train: SplitFiles, processes: int
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Settings for as many images as there are, and the line that says so."""
    assert train.annotations is not None  # it was required
    task = known["recipe"]
    images = _images(train.annotations, annotated=task == "detection")
    start = start_options({**known, **given}, task, images)
    recipe = recipe_for(len(images), task, trained=start.trained, lr=start.lr, processes=processes)
    return {**recipe.variables(), **start.options}, (recipe.said(given), *start.lines)


def _images(file: Path, *, annotated: bool) -> Sequence[Mapping[str, Any]]:
    """Entries of the images; of those alone that have boxes, where others are left out."""
    data, _ = read_boxes(file, labelled=False)
    if not annotated:
        return data["images"]
    seen = {annotation["image_id"] for annotation in data["annotations"]}
    return [image for image in data["images"] if image["id"] in seen]


def _detection(
    config: Config, description: DataDescription, evaluated: SplitFiles | None, training: bool
) -> dict[str, Any]:
    """Overrides of a detector's config."""
    words = {**_REPLACE, **vocabulary_setting(description.vocabulary)}
    head = config.model.roi_head.bbox_head
    found: dict[str, Any] = {"model.roi_head.bbox_head.vocabulary": words}
    if head.get("loss_cls", {}).get("class_weight") is not None:
        found["model.roi_head.bbox_head.loss_cls.class_weight"] = words
    if training:
        _require_coco(config, "train_dataloader")
        train = description.require("train", "annotations")
        found["train_dataloader.dataset"] = {**_boxes_of(train, words), "base_only": True}
    for part in ("val", "test"):
        names = [f"{part}_{what}" for what in ("dataloader", "evaluator", "cfg")]
        if config.get(names[0]) is None:
            continue
        if evaluated is None:
            found |= dict.fromkeys(names)
            continue
        _require_coco(config, names[0])
        if evaluated.annotations is None:
            raise ValueError(
                f"{description.file}: the split {evaluated.images.name!r} that is evaluated on "
                "has no 'annotations', which detection needs"
            )
        found[f"{names[0]}.dataset"] = _boxes_of(evaluated, words)
        found[f"{names[1]}.type"] = "OpenVocabularyCocoMetric"
        found[f"{names[1]}.ann_file"] = _file(evaluated.annotations)
    return found


def _boxes_of(files: SplitFiles, words: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": _COCO[0],
        "vocabulary": dict(words),
        "data_root": "",
        "ann_file": _file(files.annotations),
        "data_prefix": {**_REPLACE, "img": _file(files.images)},
    }


def _require_coco(config: Config, loader: str) -> None:
    if config.get(loader) is None:
        raise ValueError(f"config {config.filename} trains nothing: it is for tools/test.py")
    if (kind := config[loader].dataset.type) not in _COCO:
        raise ValueError(
            f"config {config.filename}: {loader} reads files of {kind}; --data needs a config "
            "for COCO's format, such as configs/detection/coco-transfer_eva02-l-14-336.py"
        )


def _pretraining(
    config: Config, description: DataDescription, evaluated: SplitFiles | None, training: bool
) -> dict[str, Any]:
    """Overrides of a config of pretraining."""
    words = {**_REPLACE, **vocabulary_setting(description.vocabulary)}
    found: dict[str, Any] = {}
    if config.model.get("vocabulary") is not None:
        found["model.vocabulary"] = words
    if training:
        fields = config.train_dataloader.dataset.get("fields")
        captioned = ("captions",) if fields is None or "texts" in fields else ()
        train = description.require("train", "annotations", *captioned)
        novel = [description.vocabulary.names[i] for i in description.vocabulary.indices("novel")]
        found["train_dataloader.dataset.source"] = {
            **_REPLACE,
            "type": "AnnotationFiles",
            **_named(train, ("annotations", "captions", "region_captions")),
            "image_root": _file(train.images),
            # Where names of classes are the captions, a novel one would be read.
            **({"left_out": novel} if novel and train.region_captions is None else {}),
        }
    for part in ("val", "test"):
        loaders, metrics = config.get(f"{part}_dataloader"), config.get(f"{part}_evaluator")
        if loaders is None:
            continue
        tasks = {name: _task(loaders[name], evaluated, words) for name in loaders}
        kept = {name: loader for name, loader in tasks.items() if loader is not None}
        if not kept:
            found |= dict.fromkeys(f"{part}_{what}" for what in ("dataloader", "evaluator", "cfg"))
            continue
        evaluators = {name: metrics[name].to_dict() for name in kept}
        found |= {f"{part}_dataloader": kept, f"{part}_evaluator": evaluators}
    return found


_NEEDED = {"box_regions": "annotations", "image_captions": "captions"}


def _task(
    loader: Any, evaluated: SplitFiles | None, words: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The loader of an evaluation on described files; None where what it needs is not there."""
    found: dict[str, Any] = loader.to_dict()
    need = _NEEDED.get(found["dataset"]["type"])
    if need is None:
        return found  # of another data set, such as Flickr30k
    if evaluated is None or getattr(evaluated, need) is None:
        return None
    files = {"image_root": _file(evaluated.images)}
    if need == "annotations":
        files["instances"] = _file(evaluated.annotations)
        found["dataset"]["vocabulary"] = dict(words)
    else:
        files["captions"] = _file(evaluated.captions)
    found["dataset"] |= {"data_root": None, "split": None, "files": files}
    return found


def _named(files: SplitFiles, kinds: Sequence[str]) -> dict[str, str]:
    return {kind: _file(path) for kind in kinds if (path := getattr(files, kind)) is not None}
