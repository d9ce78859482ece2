"""What proposers of boxes and captioners of regions are to the data engine, and how they are named.

A model is named by a word, ``KIND`` or ``KIND:ARGUMENT`` ("existing", "hf:PekingU/rtdetr_r50vd").
:data:`PROPOSERS` and :data:`CAPTIONERS` say which class of which module makes which kind; a module
is imported when its kind is asked for. The class is called with the argument ("" without one) and
the options of the run's configuration.

**For models**: results must not depend on how images or regions are batched beyond rounding, since
a resumed run may batch others together, and must be the same each time (no sampling without seed).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from PIL import Image

from fineclip.checks import nearest

PROPOSERS = {
    "existing": "fineclip.annotation.existing:ExistingBoxes",
    "hf": "fineclip.annotation.proposers.huggingface:HuggingFaceProposer",
    "torchvision": "fineclip.annotation.proposers.torchvision:TorchvisionProposer",
    "ultralytics": "fineclip.annotation.proposers.ultralytics:UltralyticsProposer",
    "sam": "fineclip.annotation.proposers.sam:MaskProposer",
    "opencv": "fineclip.annotation.proposers.opencv:OpenCVProposer",
    "mmdet": "detection.proposers:MMDetProposer",
    "fvit": "detection.proposers:FViTProposer",
}
"""Module and class by kind. Those of ``detection`` are names here, never imports."""

CAPTIONERS = {
    "existing": "fineclip.annotation.existing:ExistingCaptions",
    "template": "fineclip.annotation.templates:TemplateCaptions",
    "hf": "fineclip.annotation.captioners.huggingface:HuggingFaceCaptioner",
    "openai": "fineclip.annotation.captioners.endpoint:EndpointCaptioner",
}
"""Module and class by kind."""


@dataclass(frozen=True)
class Proposals:
    """Boxes of one image.

    Attributes:
        boxes: (n, 4) float32 xyxy in pixels of the upright image.
        scores: (n,) float32 in [0, 1].
        names: n names of categories, "" where the proposer has none.
        captions: n existing captions of the boxes, None where there are none.
    """

    boxes: np.ndarray
    scores: np.ndarray
    names: tuple[str, ...]
    captions: tuple[str | None, ...]


@dataclass(frozen=True)
class RegionInfo:
    """What is known about a region that is to be described.

    Attributes:
        key: Key of its image.
        box: xyxy in pixels of the upright image.
        name: Name of its category, "" where there is none.
        caption: Its existing caption, None where there is none.
        score: Of the proposer, in [0, 1].
    """

    key: str
    box: tuple[float, float, float, float]
    name: str
    caption: str | None
    score: float


@dataclass(frozen=True)
class CaptionFailure:
    """A region that could not be described.

    Attributes:
        reason: Why, in few words without anything particular to the region: the manifest counts
            failures by it ("endpoint timed out").
    """

    reason: str


class Proposer(Protocol):
    """Finds boxes."""

    identity: str
    """For the manifest: kind, model, revision or hash of the weights."""

    needs_images: bool
    """Whether it looks at pixels, as every model does."""

    categories: Sequence[str] | None
    """All names that it may give boxes: their places make the category ids. None: those of the
    source. A model without names has none, ``()``."""

    def propose(
        self, images: Sequence[Image.Image | None], keys: Sequence[str], known: Sequence[Proposals]
    ) -> list[Proposals]:
        """Boxes of some images.

        Args:
            images: Upright, RGB; None unless ``needs_images``.
            keys: Their names, for messages.
            known: The boxes that the source has of each; models do not need them.

        Returns:
            Boxes of each image, in any order.
        """


class Captioner(Protocol):
    """Describes regions."""

    identity: str
    """For the manifest: kind, model, revision or hash of the weights, prompt."""

    needs_crops: bool
    """Whether it looks at pixels."""

    def caption(
        self, crops: Sequence[Image.Image | None], regions: Sequence[RegionInfo]
    ) -> list[str | CaptionFailure]:
        """Describes some regions.

        Args:
            crops: The region of each image, RGB; None unless ``needs_crops``.
            regions: What else is known.

        Returns:
            One caption per region, or why there is none.
        """


def create_proposer(spec: str, **options: Any) -> Proposer:
    """Makes a proposer by its name.

    Args:
        spec: ``KIND`` or ``KIND:ARGUMENT``, a kind of :data:`PROPOSERS`.
        **options: Of its class.

    Raises:
        ValueError: There is no such kind, or an argument or option is wrong.
        ImportError: A library that it needs is not installed.
    """
    return _create(spec, PROPOSERS, "proposer", options)


def create_captioner(spec: str, **options: Any) -> Captioner:
    """Makes a captioner by its name, a kind of :data:`CAPTIONERS`; see :func:`create_proposer`."""
    return _create(spec, CAPTIONERS, "captioner", options)


def check_kinds(proposer: str, captioner: str) -> None:
    """Checks the kinds of names, without importing anything.

    Raises:
        ValueError: There is no such kind.
    """
    _kind_of(proposer, PROPOSERS, "proposer")
    _kind_of(captioner, CAPTIONERS, "captioner")


def _kind_of(spec: str, kinds: dict[str, str], what: str) -> str:
    kind = spec.partition(":")[0]
    if kind not in kinds:
        raise ValueError(f"{what} {spec!r}: there is no kind {kind!r}; {nearest(kind, kinds)}")
    return kind


def _create(spec: str, kinds: dict[str, str], what: str, options: dict[str, Any]) -> Any:
    module, _, name = kinds[_kind_of(spec, kinds, what)].partition(":")
    make = getattr(import_module(module), name)
    known = inspect.signature(make).parameters
    for option in options:
        if option not in known:
            raise ValueError(f"{what} {spec!r}: no option {option!r}; {nearest(option, known)}")
    return make(spec.partition(":")[2], **options)
