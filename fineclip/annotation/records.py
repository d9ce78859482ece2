"""What a source says of its images, and how things that are left out are said."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fineclip.annotation.interfaces import Proposals

STRIDE = 1_000_000
"""Images that an input shard may have: the number of an image is shard * STRIDE + position."""

MAX_TEXT_BYTES = 1 << 24
"""Of the caption, and of the metadata, of one image; nobody writes more."""

_LONGEST_REASON = 120


class LeftOut(Exception):
    """An image, a box or a caption is left out.

    Args:
        reason: Why, without what differs from one to the next: reasons are counted.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def countable(reason: str) -> str:
    """A reason without what is particular to one image: "is N x N pixels"."""
    reason = re.sub(r"b?'[^']*'|b?\"[^\"]*\"", "'...'", " ".join(reason.split()))
    reason = re.sub(r"\b0x[0-9a-f]+|\d+(\.\d+)?", "N", reason)
    return "".join(c if c.isprintable() else "?" for c in reason)[:_LONGEST_REASON]


@dataclass(frozen=True)
class KnownBox:
    """A box that the source has.

    Attributes:
        bbox: xywh in pixels of the upright image.
        name: Of its category, "" without one.
        caption: None where there is none.
        score: In [0, 1].
    """

    bbox: tuple[float, float, float, float]
    name: str = ""
    caption: str | None = None
    score: float = 1.0


@dataclass(frozen=True)
class InputImage:
    """An image as the source has it, nothing checked yet.

    Attributes:
        position: Its place in the input shard.
        file_name: Its name there.
        content: The image file; None where ``refusal`` says why not.
        captions: Of the image; bytes where they could not be read as text yet.
        boxes: That the source knows.
        image_id: That the source gives it; None: none.
        size: Width and height in pixels that the source states.
        unsafe: Probability, by the source's own metadata, that it is not fit to be shown.
        refusal: Why there is no image.
    """

    position: int
    file_name: str
    content: bytes | None = None
    captions: Sequence[str | bytes] = ()
    boxes: Sequence[KnownBox] = ()
    image_id: int | str | None = None
    size: tuple[int, int] | None = None
    unsafe: float | None = None
    refusal: str | None = None


class InputShard(Protocol):
    """Some images of a source, always the same in the same order; it can be pickled."""

    @property
    def name(self) -> str:
        """For messages."""

    def __len__(self) -> int: ...

    def images(self, wanted: Container[int] | None = None) -> Iterator[InputImage]:
        """Reads the images, or those at certain positions alone."""


class ImageSource(Protocol):
    """Images as a sequence of input shards."""

    identity: dict[str, Any]
    """What a run that is continued must find again: plain values."""

    captioned: bool
    """Whether images are to have captions."""

    categories: Sequence[str]
    """Names of the categories of its boxes, in order."""

    notes: dict[str, int]
    """What was mended or left out of its own files, by reason."""

    total: int | None
    """Images; None: known when all is read."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> InputShard: ...


def as_proposals(boxes: Sequence[KnownBox]) -> Proposals:
    """The boxes of a source in the form of proposals."""
    corners = np.array([box.bbox for box in boxes], np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return Proposals(
        corners,
        np.array([box.score for box in boxes], np.float32),
        tuple(box.name for box in boxes),
        tuple(box.caption for box in boxes),
    )
