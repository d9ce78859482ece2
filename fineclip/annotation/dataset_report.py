"""Everything that can be said about a data set: numbers as JSON, pictures, a few lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fineclip.annotation.coverage import MIN_CAPTIONS, Coverage
from fineclip.annotation.near_duplicates import NearDuplicates, near_duplicates_of
from fineclip.annotation.near_words import NEAR, add_near_words
from fineclip.annotation.recall import ProposalRecall
from fineclip.annotation.statistics import DatasetStatistics, collect, open_data_set
from fineclip.annotation.statistics_plots import plot_statistics
from fineclip.datasets.region_source import ImageRecord, RegionSource
from fineclip.files import write_atomically
from fineclip.images import UnusableImageError
from fineclip.models.class_embeddings import TextEncoder
from fineclip.text import load_vocabulary

STATISTICS = "statistics.json"
MOST_WORDS = 10_000
"""Words of the captions that are compared with names, the most frequent ones."""

Bar = Callable[[str, str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows progress under a title and a unit."""


@dataclass(frozen=True)
class ReportSettings:
    """What is to be looked at.

    Attributes:
        vocabularies: Names or files of the vocabularies of benchmarks.
        benchmark_images: Folders of their images.
        annotations: COCO annotations of the data set's images, for the recall of its boxes.
        min_captions: Captions that must name a category for it to be relevant.
        near: Cosine of a near word.
    """

    vocabularies: Sequence[str] = ()
    benchmark_images: Sequence[str | Path] = ()
    annotations: str | Path | None = None
    min_captions: int = MIN_CAPTIONS
    near: float = NEAR


def describe_data_set(
    path: str | Path,
    out: str | Path,
    settings: ReportSettings,
    *,
    bar: Bar,
    clip: TextEncoder | None = None,
    **files: Any,
) -> dict[str, Any]:
    """Makes the statistics of a data set and writes them.

    Args:
        path: See :func:`fineclip.annotation.statistics.open_data_set`.
        out: Folder of ``statistics.json`` and the pictures, made if it is missing.
        settings: What is looked at.
        bar: Shows progress.
        clip: Embeds words, for those that are near to names; None: none are.
        **files: See :func:`fineclip.annotation.statistics.open_data_set`.

    Returns:
        What ``statistics.json`` holds.

    Raises:
        FileNotFoundError: A file or folder does not exist.
        ValueError: A file is malformed, or there are no image files to compare with a benchmark's.
    """
    coverages = [Coverage(load_vocabulary(name)) for name in settings.vocabularies]
    recall = None if settings.annotations is None else ProposalRecall(settings.annotations)
    data = open_data_set(path, **files)
    duplicates = None
    if settings.benchmark_images:
        if data.source is None:
            raise ValueError(
                f"{data.where}: where its images are is not known, so they cannot be compared with "
                "a benchmark's; name their folder (--image-root)"
            )
        with bar("benchmark", "image") as progress:
            duplicates = near_duplicates_of(settings.benchmark_images, progress)

    def look_at(number: int, record: ImageRecord) -> None:
        if recall is not None:
            recall.add(record)
        if duplicates is not None and data.source is not None:
            _compare(duplicates, data.source, number, record)

    with bar("data set", "image") as progress:
        statistics = collect(data, coverages, also=look_at, progress=progress)
    for coverage in coverages:
        if clip is not None:
            with bar(f"words near {coverage.vocabulary.name}", "text") as progress:
                words = _words(statistics, settings.min_captions)
                add_near_words(coverage, words, clip, near=settings.near, progress=progress)
        coverage.judge(settings.min_captions)
    found: dict[str, Any] = {"data_set": data.where, **statistics.as_json()}
    found["settings"] = {"min_captions": settings.min_captions, "near": settings.near}
    found["settings"]["near_words"] = clip is not None
    if duplicates is not None:
        found["near_duplicates"] = duplicates.as_json()
    if recall is not None:
        found["recall"] = recall.as_json()
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    plot_statistics(statistics, out)
    write_atomically(out / STATISTICS, json.dumps(found, indent=1) + "\n")
    return found


def report_lines(found: dict[str, Any]) -> list[str]:
    """A data set in a few lines.

    Args:
        found: From :func:`describe_data_set`.
    """
    lines = [", ".join(f"{count} {name}" for name, count in found["counts"].items())]
    for name in ("captions", "region captions"):
        texts = found[name]
        if texts["words_per_text"]["count"]:
            median = texts["words_per_text"]["quantiles"]["0.5"]
            lines.append(
                f"{name}: {median} words (median), {texts['distinct_share']:.1%} distinct, "
                f"{texts['distinct_words']} different words"
            )
    for name, coverage in found["coverage"].items():
        levels = ", ".join(f"{count} {level}" for level, count in coverage["levels"].items())
        lines.append(f"{name}, {len(coverage['categories'])} categories: {levels}")
    if "near_duplicates" in found:
        near = found["near_duplicates"]
        lines.append(
            f"near-duplicates: {near['images']} images look like {near['benchmark_images_found']} "
            f"of the benchmark's {near['benchmark_images']}"
        )
    if "recall" in found:
        recall = found["recall"]
        figures = ", ".join(f"{key} {value:.3f}" for key, value in recall.items() if "AR" in key)
        lines.append(
            f"recall of {recall['annotated_boxes']} annotated boxes in {recall['images']} images: "
            f"{figures or 'no boxes'}"
        )
    return lines


def _words(statistics: DatasetStatistics, least: int) -> list[str]:
    """The words that occur often enough, most frequent first."""
    counts = dict(statistics.captions.common_words(MOST_WORDS))
    for word, count in statistics.region_captions.common_words(MOST_WORDS):
        counts[word] = counts.get(word, 0) + count
    often = [word for word, count in counts.items() if count >= least and not word.isdecimal()]
    return sorted(often, key=lambda word: (-counts[word], word))[:MOST_WORDS]


def _compare(
    duplicates: NearDuplicates, source: RegionSource, number: int, record: ImageRecord
) -> None:
    try:
        duplicates.look_at(record.image["file_name"], source.read(number))
    except UnusableImageError:  # a file that is missing
        duplicates.unreadable += 1
