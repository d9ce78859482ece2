"""What is known of a data set that is registered with detectron2, by whomever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from fineclip.datasets.description import IGNORE_LABEL
from fineclip.text import load_vocabulary


@dataclass(frozen=True)
class RegisteredSet:
    """A data set as its metadata describe it.

    detectron2's tutorial sets ``stuff_classes`` alone, which is enough.

    Attributes:
        name: As it is registered.
        class_names: Its K classes.
        prompt_names: What to ask a model for, in their order.
        ignore_label: Value of label maps that is no class.
        seen: Classes of them that models are trained with; None: it is not said.
        background: Class that all prompts from this place on stand for; None: none.
    """

    name: str
    class_names: tuple[str, ...]
    prompt_names: tuple[str, ...]
    ignore_label: int = IGNORE_LABEL
    seen: tuple[str, ...] | None = None
    background: int | None = None


def registered_set(name: str, where: str = "DATASETS") -> RegisteredSet:
    """Reads the metadata of a data set; what they leave out has a default.

    Args:
        name: As it is registered.
        where: Who names it, for messages.

    Raises:
        ValueError: It is not registered, or its classes are not named.
    """
    if name not in DatasetCatalog:
        known = ", ".join(DatasetCatalog.list())
        raise ValueError(
            f"{where}: data set {name!r} is not registered; name the data.yaml that describes it "
            f"with --data, or the program that registers it with --register; known: {known}"
        )
    metadata = MetadataCatalog.get(name)
    names = metadata.get("stuff_classes")
    if not names or isinstance(names, str):
        raise ValueError(
            f"{where}: data set {name!r} is registered without its classes: add "
            f"MetadataCatalog.get({name!r}).set(stuff_classes=[...]), their names in the order of "
            "the values of its label maps"
        )
    seen = metadata.get("seen_classes")
    return RegisteredSet(
        name=name,
        class_names=tuple(names),
        prompt_names=tuple(metadata.get("prompt_classes") or names),
        ignore_label=metadata.get("ignore_label", IGNORE_LABEL),
        seen=None if seen is None else tuple(seen),
        background=metadata.get("background_class"),
    )


def training_names(cfg: CfgNode) -> Sequence[str]:
    """Names that a model is trained with.

    Args:
        cfg: ``MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON``, a list; where it is empty, the classes of
            ``DATASETS.TRAIN``; where there is none either, a model is asked for others only.

    Raises:
        ValueError: An unknown list or data set.
        FileNotFoundError: A list that does not exist.
    """
    if source := cfg.MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON:
        return load_vocabulary(source).prompt_names
    if not cfg.DATASETS.TRAIN:
        return ("thing",)
    return registered_set(cfg.DATASETS.TRAIN[0], "DATASETS.TRAIN").prompt_names
