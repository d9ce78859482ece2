"""The first pass over a shard: which images can be used, and their fingerprints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from fineclip.annotation.caption_cleaning import clean_captions
from fineclip.annotation.duplicates import find_duplicates
from fineclip.annotation.fingerprints import COLOURS, Fingerprint, fingerprint
from fineclip.annotation.image_filter import filtered_image
from fineclip.annotation.records import STRIDE, InputShard, LeftOut
from fineclip.annotation.settings import AnnotationSettings
from fineclip.files import replacing

Tell = Callable[[int, int], None]
"""Told how many images, and how many shards, are done since the last time."""


def say_nothing(images: int, shards: int) -> None:
    """For whoever need not be told."""


@dataclass(frozen=True)
class ShardScan:
    """What the first pass over a shard has found.

    Attributes:
        total: Images of the shard.
        positions: (n,) int64 places of the usable ones.
        sizes: (n, 2) int64 width and height in pixels.
        content: (n, 16) uint8; this and the next four as :class:`Fingerprint` has them.
        looks: (n,) uint64.
        flat: (n,) bool.
        colours: (n, 48) uint8.
        text: (n,) uint64.
        left_out: Why others are not used, one line each.
        left_out_counts: How often.
        captions_out: Why captions are not used, one line each.
        captions_out_counts: How often.
    """

    total: np.ndarray
    positions: np.ndarray
    sizes: np.ndarray
    content: np.ndarray
    looks: np.ndarray
    flat: np.ndarray
    colours: np.ndarray
    text: np.ndarray
    left_out: np.ndarray
    left_out_counts: np.ndarray
    captions_out: np.ndarray
    captions_out_counts: np.ndarray

    def save(self, path: Path) -> None:
        """Writes it whole or not at all; the same content gives the same bytes."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path: Path) -> ShardScan:
        """Reads it.

        Raises:
            ValueError: It is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return cls(**{f.name: arrays[f.name] for f in fields(cls)})
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ValueError(f"{path} is damaged ({error}): remove it, and run again") from None

    def reasons(self) -> Counter[str]:
        """Why images are not used, and how often."""
        return _as_counter(self.left_out, self.left_out_counts)

    def caption_reasons(self) -> Counter[str]:
        """Why captions are not used, and how often."""
        return _as_counter(self.captions_out, self.captions_out_counts)


def scan_shard(
    shard: InputShard, settings: AnnotationSettings, captioned: bool, tell: Tell = say_nothing
) -> ShardScan:
    """Decodes, filters and fingerprints the images of a shard.

    Args:
        shard: The images.
        settings: Limits.
        captioned: Whether the source has captions.
        tell: Told of every image.
    """
    total = 0
    positions: list[int] = []
    sizes: list[tuple[int, int]] = []
    prints: list[Fingerprint] = []
    left_out: Counter[str] = Counter()
    captions_out: Counter[str] = Counter()
    for image in shard.images():
        total += 1
        if total > STRIDE:
            raise ValueError(f"{shard.name}: more than {STRIDE} images; divide it into shards")
        captions, reasons = clean_captions(list(image.captions), settings)
        captions_out.update(reasons)
        try:
            pixels = filtered_image(image, settings)
            if captioned and settings.require_captions and not captions:
                raise LeftOut(reasons[0] if reasons else "no caption")
        except LeftOut as out:
            left_out[out.reason] += 1
        else:
            positions.append(image.position)
            sizes.append(pixels.size)
            prints.append(fingerprint(image.content or b"", pixels, captions))
        tell(1, 0)
    return ShardScan(
        np.array(total),
        np.array(positions, np.int64),
        np.array(sizes, np.int64).reshape(-1, 2),
        np.frombuffer(b"".join(p.content for p in prints), np.uint8).reshape(-1, 16),
        np.array([p.looks for p in prints], np.uint64),
        np.array([p.flat for p in prints], bool),
        np.array([p.colours for p in prints], np.uint8).reshape(-1, COLOURS),
        np.array([int.from_bytes(p.text, "big") for p in prints], np.uint64),
        *_as_arrays(left_out),
        *_as_arrays(captions_out),
    )


def duplicates_by_shard(
    scans: Sequence[ShardScan], settings: AnnotationSettings
) -> list[dict[int, str]]:
    """Which images are left out because others are like them.

    Returns:
        Of each shard, the reason by position.
    """

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(scan, name) for scan in scans])

    found = find_duplicates(
        joined("content"),
        joined("looks"),
        joined("flat"),
        joined("colours"),
        joined("text"),
        how=settings.duplicates,
        max_images_per_caption=settings.max_images_per_caption,
    )
    ends = np.cumsum([len(scan.positions) for scan in scans])
    by_shard: list[dict[int, str]] = [{} for _ in scans]
    for place, reason in sorted(found.items()):
        number = int(np.searchsorted(ends, place, side="right"))
        scan = scans[number]
        position = scan.positions[place - (ends[number] - len(scan.positions))]
        by_shard[number][int(position)] = reason
    return by_shard


def _as_arrays(counter: Counter[str]) -> tuple[np.ndarray, np.ndarray]:
    words = sorted(counter)
    return np.array(words, np.str_), np.array([counter[word] for word in words], np.int64)


def _as_counter(words: np.ndarray, counts: np.ndarray) -> Counter[str]:
    return Counter(dict(zip(words.tolist(), counts.tolist(), strict=True)))
