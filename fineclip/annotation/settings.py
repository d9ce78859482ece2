"""Settings of a run: what a config file and ``--cfg-options`` can say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from fineclip.checks import (
    FLAG,
    NOTHING,
    OBJECT,
    TEXT,
    Check,
    either,
    integer_from,
    list_of,
    nearest,
    one_of,
    real,
)

_ENGINE = ("proposer_batch", "captioner_batch", "gpus_per_worker")


@dataclass(frozen=True)
class AnnotationSettings:
    """What is done with every image.

    Attributes:
        proposer: Name of :func:`fineclip.annotation.interfaces.create_proposer`.
        proposer_options: Arguments of its class.
        captioner: Name of :func:`fineclip.annotation.interfaces.create_captioner`.
        captioner_options: Arguments of its class.
        shard_size: Images of a shard, where the source has none; a kill costs one at most.
        min_pixels: Images with fewer are left out.
        max_aspect: Images with a longer over shorter side above this are left out.
        max_unsafe: Images whose metadata (``punsafe`` of LAION's sets) say more are left out.
        require_captions: Images without a usable caption are left out.
        min_words: Of captions.
        max_words: Of captions.
        max_characters: Of captions.
        blocked_words: Captions with one of them are left out, and with them their image or region.
        duplicates: "near": images that look alike, and "exact" ones; "exact": files with the same
            bytes; "off". The first one stays.
        max_images_per_caption: Images that may have the same first caption, but for case and
            punctuation; the first ones stay. None: any number.
        min_score: Boxes below are left out.
        nms_iou: Of two boxes that overlap more, the one with the lower score is left out, whatever
            their categories; None: 0.7, and 0.95 for existing boxes, which no detector repeats.
        min_box_area: Square pixels, as cut to the image.
        max_box_area: Square pixels.
        min_box_side: Pixels.
        max_boxes: Of an image; those with the highest scores stay.
        crop_scale: Factor on the sides of a box for the crop that is described.
        proposer_batch: Images of a batch.
        captioner_batch: Crops of a batch.
        gpus_per_worker: Of ``--engine ray``; None: 1 where there are some, and models need them.
    """

    proposer: str = "existing"
    proposer_options: Mapping[str, Any] = field(default_factory=dict)
    captioner: str = "template"
    captioner_options: Mapping[str, Any] = field(default_factory=dict)
    shard_size: int = 1000
    min_pixels: int = 32 * 32
    max_aspect: float = 10.0
    max_unsafe: float | None = 0.5
    require_captions: bool = True
    min_words: int = 1
    max_words: int = 256
    max_characters: int = 2000
    blocked_words: frozenset[str] = frozenset()
    duplicates: str = "near"
    max_images_per_caption: int | None = None
    min_score: float = 0.0
    nms_iou: float | None = None
    min_box_area: float = 8 * 8
    max_box_area: float = 1024 * 1024
    min_box_side: float = 1.0
    max_boxes: int = 100
    crop_scale: float = 1.0
    proposer_batch: int = 8
    captioner_batch: int = 32
    gpus_per_worker: float | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> AnnotationSettings:
        """Makes them of plain values by name; dotted names are entries of the options.

        Raises:
            ValueError: A name is unknown, or a value makes no sense.
        """
        plain: dict[str, Any] = {}
        for key, value in values.items():
            name, _, option = key.partition(".")
            if name not in _CHECKS or (option and not name.endswith("_options")):
                raise ValueError(f"settings: there is no {key!r}; {nearest(name, _CHECKS)}")
            if option:
                plain[name] = {**plain.get(name, {}), option: value}
                continue
            if name == "blocked_words" and isinstance(value, str):
                value = [value]
            _CHECKS[name].require(value, f"settings: {name}")
            plain[name] = value
        if "blocked_words" in plain:
            words = plain["blocked_words"]
            plain["blocked_words"] = frozenset(word.casefold() for word in words)
        settings = cls(**plain)
        for low, high in (("min_words", "max_words"), ("min_box_area", "max_box_area")):
            if getattr(settings, low) > getattr(settings, high):
                raise ValueError(f"settings: {low} must not be above {high}")
        return settings

    def overlap(self) -> float:
        """IoU from which on the box with the lower score is left out."""
        if self.nms_iou is not None:
            return self.nms_iou
        return 0.95 if self.proposer == "existing" else 0.7

    def plain(self) -> dict[str, Any]:
        """What results depend on, as JSON has it."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _ENGINE}
        options = {k: dict(v) for k, v in values.items() if k.endswith("_options")}
        return {**values, **options, "blocked_words": sorted(self.blocked_words)}


_COUNT = integer_from(1)
_CHECKS: dict[str, Check] = {
    "proposer": TEXT,
    "proposer_options": OBJECT,
    "captioner": TEXT,
    "captioner_options": OBJECT,
    "shard_size": integer_from(1, 1_000_000),
    "min_pixels": _COUNT,
    "max_aspect": real(1),
    "max_unsafe": either(real(0, 1), NOTHING),
    "require_captions": FLAG,
    "min_words": _COUNT,
    "max_words": _COUNT,
    "max_characters": _COUNT,
    "blocked_words": list_of(TEXT),
    "duplicates": one_of("near", "exact", "off"),
    "max_images_per_caption": either(_COUNT, NOTHING),
    "min_score": real(0, 1),
    "nms_iou": either(real(0, 1), NOTHING),
    "min_box_area": real(0),
    "max_box_area": real(0),
    "min_box_side": real(0),
    "max_boxes": integer_from(1, 1000),
    "crop_scale": real(0, above=True),
    "proposer_batch": _COUNT,
    "captioner_batch": _COUNT,
    "gpus_per_worker": either(real(0), NOTHING),
}
