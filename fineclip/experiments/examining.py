"""What a fine-tuned model still knows: questions, answers, and the mix that is chosen by them.

A model is asked about one's own classes in one's own images (``own``), and about those of a
reference in its images (``kept``): the classes it was trained for, or any others. Either by
themselves, or together with the others, as one asks a model that should know both.

What is chosen (how much of the fine-tuned weights, the offset between old and new classes) is
chosen on one part of the images and reported on another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from fineclip.datasets.description import DataDescription
from fineclip.experiments.engine import RESULT, Outcome
from fineclip.files import read_json, write_atomically

Side = Literal["own", "kept"]
Part = Literal["choose", "report"]
Scores = Mapping[str, float]
Item = TypeVar("Item")

SIDES: tuple[Side, ...] = ("own", "kept")
PARTS: tuple[Part, ...] = ("choose", "report")
WEIGHTS = "finetuned.pth"
"""What an examiner calls the weights that it writes."""

KEPT_SHARE = 0.95
"""Of the start's reference score that a chosen mix keeps, where one does."""

ANSWERS = "answers.json"
_MOST_TO_CHOOSE = 100  # images: choosing asks about them again and again
_GROUPS = ("base", "novel")


@dataclass(frozen=True)
class Question:
    """What a mix of start and fine-tuned weights is asked.

    Attributes:
        alpha: Share of the fine-tuned weights.
        side: Whose images, and whose classes count.
        part: Of these images.
        together: Classes of both sides are asked for at once.
        offset: Added to the logits of one's own classes.
    """

    alpha: float
    side: Side
    part: Part
    together: bool = False
    offset: float = 0.0


class Examiner(Protocol):
    """A model of a task, which answers.

    Attributes:
        images: Number of images of each side and part.
    """

    images: dict[str, int]

    def load(self, alpha: float) -> None:
        """Takes ``alpha`` x the fine-tuned weights + ``1 - alpha`` x the start's."""

    def answer(self, question: Question) -> Scores:
        """Scores in percent: of all classes and, where there is a split, ``base_`` and ``novel_``.

        The weights are those of the question.
        """

    def write(self, folder: Path) -> None:
        """Writes the weights that are loaded, and what they are used with, into a folder."""


class Answers:
    """Answers in a file, so that nothing is asked twice.

    Args:
        folder: Where the file is.
        examiner: Who answers what is not there; None: nobody.
    """

    def __init__(self, folder: Path, examiner: Examiner | None = None) -> None:
        self._file = folder / ANSWERS
        self._examiner = examiner
        self._loaded: float | None = None
        entries = read_json(self._file, "answers") if self._file.is_file() else []
        self._known = {Question(**question): scores for question, scores in entries}

    def __getitem__(self, question: Question) -> Scores:
        """The scores of a question.

        Raises:
            KeyError: They are not there, and nobody is to be asked.
        """
        if question not in self._known:
            if self._examiner is None:
                raise KeyError(question)
            if self._loaded != question.alpha:
                self._examiner.load(question.alpha)
                self._loaded = question.alpha
            self._known[question] = dict(self._examiner.answer(question))
            entries = [(asdict(asked), scores) for asked, scores in self._known.items()]
            write_atomically(self._file, json.dumps(entries, indent=1) + "\n")
        return self._known[question]

    def both(self, alpha: float, part: Part, **options: Any) -> dict[Side, Scores]:
        """What a mix scores on both sides."""
        return {side: self[Question(alpha, side, part, **options)] for side in SIDES}


def main_score(scores: Scores) -> float:
    """The one figure of several: the mean of base and novel classes, or that of all classes."""
    found = [value for group in _GROUPS if (value := _of_group(scores, group)) is not None]
    if len(found) == len(_GROUPS):
        return sum(found) / len(found)
    return next(value for name, value in scores.items() if not name.startswith(_GROUPS))


def kept_share(scores: Scores, before: Scores) -> float:
    """How much of its score a model has kept: of base and novel classes in equal parts.

    A group in which there was nothing to lose is kept.
    """
    pairs = [(_of_group(scores, group), _of_group(before, group)) for group in _GROUPS]
    if any(now is None or then is None for now, then in pairs):
        pairs = [(main_score(scores), main_score(before))]
    shares = [now / then if then else 1.0 for now, then in pairs if now is not None]
    return sum(shares) / len(shares)


def _of_group(scores: Scores, group: str) -> float | None:
    return next((value for name, value in scores.items() if name.startswith(group)), None)


def chosen_alpha(
    points: Mapping[float, Mapping[Side, Scores]], least_kept: float = KEPT_SHARE
) -> float:
    """Which mix to take.

    Of those that keep enough of the reference score, the one that is best on one's own classes.
    Where none does, the one with the highest harmonic mean of the share kept and the share
    of the best own score.

    Args:
        points: Scores by share of the fine-tuned weights, 0 among them, all on the images to choose
            by.
        least_kept: Share of the reference score.

    Returns:
        The share of the fine-tuned weights, above 0.
    """
    before = points[0.0]["kept"]
    mixes = {alpha: found for alpha, found in points.items() if alpha}
    own = {alpha: main_score(found["own"]) for alpha, found in mixes.items()}
    kept = {alpha: kept_share(found["kept"], before) for alpha, found in mixes.items()}
    enough = [alpha for alpha in mixes if kept[alpha] >= least_kept]
    if enough:
        return max(enough, key=lambda alpha: (own[alpha], kept[alpha]))
    most = max(own.values()) or 1.0
    return max(mixes, key=lambda alpha: _harmonic(kept[alpha], own[alpha] / most))


def chosen_offset(points: Mapping[float, Mapping[Side, Scores]]) -> float:
    """The offset with the highest harmonic mean of both scores; of several, the smallest.

    Args:
        points: Scores by offset, asked together.
    """
    return max(
        sorted(points, key=abs),
        key=lambda offset: _harmonic(*(main_score(points[offset][side]) for side in SIDES)),
    )


def _harmonic(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second > 0 else 0.0


def splits_of(description: DataDescription) -> dict[Part, str]:
    """Val to choose by and test to report on; where one is missing, the other for both.

    Raises:
        ValueError: There is neither.
    """
    splits: dict[Part, str] = {"choose": "val", "report": "test"}
    if all(split in description.splits for split in splits.values()):
        return splits
    return dict.fromkeys(PARTS, description.evaluation_split)


def divided(items: Sequence[Item], seed: int) -> dict[Part, list[Item]]:
    """Divides a validation set by chance: a half to choose by, 100 at most, and the rest.

    Args:
        items: Images in an order of their own.
        seed: Of the draw.

    Raises:
        ValueError: There are fewer than two.
    """
    if len(items) < 2:
        raise ValueError(
            "choosing and reporting need two validation images at least, there is "
            f"{len(items)}: add some, or name a split 'test'"
        )
    order = np.random.default_rng((seed, len(items))).permutation(len(items)).tolist()
    number = min(len(items) // 2, _MOST_TO_CHOOSE)
    chosen = sorted(order[:number])
    rest = sorted(order[number:])
    return {"choose": [items[i] for i in chosen], "report": [items[i] for i in rest]}


def examine_start(folder: Path, examiner: Examiner) -> dict[str, Any]:
    """Examines what is to be fine-tuned.

    Args:
        folder: Where answers are kept; what an interrupted call has asked is not asked again.
        examiner: The model.

    Returns:
        Scores by part and side, and ``images``.
    """
    answers = Answers(folder, examiner)
    return {**{part: answers.both(0.0, part) for part in PARTS}, "images": dict(examiner.images)}


def examine_trained(
    folder: Path,
    examiner: Examiner,
    *,
    before: Mapping[str, Any],
    alphas: Iterable[float],
    offsets: Iterable[float],
) -> dict[str, Any]:
    """Examines a fine-tuned model: the curve over mixes, the choice, the offset of its classes.

    Args:
        folder: Where answers are kept, and the weights of the choice are written.
        examiner: The model.
        before: What :func:`examine_start` returned of the start.
        alphas: Shares of the fine-tuned weights above 0, 1 among them.
        offsets: Offsets to try, 0 among them.

    Returns:
        ``alpha``, the choice; ``curve``, by share, on the images to choose by; ``after``, on those
        to report, ``plain``, the same without a mix; ``offset`` and ``together``, both scores
        without and with it.
    """
    answers = Answers(folder, examiner)
    curve: dict[float, Mapping[Side, Scores]] = {0.0: before["choose"]}
    curve |= {alpha: answers.both(alpha, "choose") for alpha in sorted(alphas)}
    plain = answers.both(1.0, "report")
    alpha = chosen_alpha(curve)
    tried = {
        offset: answers.both(alpha, "choose", together=True, offset=offset) for offset in offsets
    }
    offset = chosen_offset(tried)
    found = {
        "alpha": alpha,
        "curve": curve,
        "after": answers.both(alpha, "report"),
        "plain": plain,
        "offset": offset,
        "together": {
            "uncalibrated": answers.both(alpha, "report", together=True),
            "calibrated": answers.both(alpha, "report", together=True, offset=offset),
        },
    }
    examiner.load(alpha)
    examiner.write(folder)
    return found


def examination(
    folder: Path,
    examiner: Examiner,
    *,
    before: str | None,
    alphas: Iterable[float],
    offsets: Iterable[float],
) -> Outcome:
    """Examines the start or what was trained from it, as the end of a job.

    Args:
        folder: The job's.
        examiner: The model.
        before: Folder of the job that examined the start; None: this is it.
        alphas: See :func:`examine_trained`.
        offsets: Likewise.
    """
    if before is None:
        found = examine_start(folder, examiner)
        return {"metrics": {}, "examined": found, "said": said(found["report"])}
    first = read_json(Path(before, RESULT), "result")["examined"]
    found = examine_trained(folder, examiner, before=first, alphas=alphas, offsets=offsets)
    line = f"alpha {found['alpha']:g}: {said(found['after'])}"
    return {"metrics": {}, "examined": found, "said": line}


def said(scores: Mapping[Side, Scores]) -> str:
    """Both sides' scores in one line."""
    return "; ".join(
        f"{side} " + ", ".join(f"{name} {value:.1f}" for name, value in scores[side].items())
        for side in SIDES
    )
