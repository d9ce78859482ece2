"""Which mix and which offset are chosen, and that nothing is asked twice."""

import json

import pytest

from fineclip.experiments.examining import (
    WEIGHTS,
    Answers,
    Question,
    chosen_alpha,
    chosen_offset,
    divided,
    examine_start,
    examine_trained,
    kept_share,
    main_score,
)


def point(own, base, novel):
    return {
        "own": {"all_ap50": own},
        "kept": {"base_ap50": base, "novel_ap50": novel, "all_ap50": 0.0},
    }


def test_the_best_own_score_among_mixes_that_keep_enough():
    points = {0.0: point(5, 40, 20), 0.3: point(12, 39, 20), 0.6: point(20, 38, 19.2)}
    assert chosen_alpha({**points, 1.0: point(30, 20, 10)}) == 0.6
    # More is not less: what has gained on the reference is kept.
    assert chosen_alpha({**points, 1.0: point(21, 50, 19)}) == 1.0


def test_the_best_compromise_where_no_mix_keeps_enough():
    points = {0.0: point(5, 40, 20), 0.5: point(25, 34, 17), 1.0: point(30, 10, 5)}
    assert chosen_alpha(points) == 0.5
    assert chosen_alpha({0.0: point(5, 40, 20), 1.0: point(30, 10, 5)}) == 1.0  # never the start


def test_shares_of_base_and_novel_classes_count_alike():
    before = {"base_ap50": 40.0, "novel_ap50": 10.0, "all_ap50": 32.0}
    assert kept_share({"base_ap50": 40.0, "novel_ap50": 5.0, "all_ap50": 30.0}, before) == 0.75
    assert kept_share({"all_ap50": 16.0}, {"all_ap50": 32.0}) == 0.5  # there is no split
    assert kept_share({"all_ap50": 3.0}, {"all_ap50": 0.0}) == 1.0  # there was nothing to lose
    assert main_score(before) == 25.0
    assert main_score({"miou": 7.0}) == 7.0


def test_the_offset_that_serves_both_sides():
    points = {-1.0: point(10, 30, 30), 0.0: point(20, 20, 20), 1.0: point(30, 5, 5)}
    assert chosen_offset(points) == 0.0
    assert chosen_offset({1.0: point(20, 20, 20), 0.0: point(20, 20, 20)}) == 0.0


def test_parts_share_no_image():
    parts = divided(list(range(11)), seed=3)
    assert len(parts["choose"]) == 5 and len(parts["report"]) == 6
    assert sorted(parts["choose"] + parts["report"]) == list(range(11))
    assert parts == divided(list(range(11)), seed=3) != divided(list(range(11)), seed=4)
    assert len(divided(list(range(900)), seed=0)["choose"]) == 100
    with pytest.raises(ValueError, match="two validation images at least"):
        divided([1], seed=0)


class Steady:
    """An examiner that scores by the weights, and notes what it is asked."""

    def __init__(self):
        self.images = {"own choose": 1}
        self.loaded, self.asked, self.written = None, [], None

    def load(self, alpha):
        self.loaded = alpha

    def answer(self, question):
        assert question.alpha == self.loaded
        self.asked.append(question)
        score = 10 + 20 * question.alpha if question.side == "own" else 40 - 20 * question.alpha
        return {"all_ap50": score + (question.offset if question.side == "kept" else 0)}

    def write(self, folder):
        self.written = self.loaded
        (folder / WEIGHTS).write_bytes(b"")


def test_the_whole_examination(tmp_path):
    start = Steady()
    before = examine_start(tmp_path, start)
    assert before["images"] == {"own choose": 1} and len(start.asked) == 4
    tuned = Steady()
    folder = tmp_path / "after"
    folder.mkdir()
    # Read back from JSON, as a job's result is.
    found = examine_trained(
        folder,
        tuned,
        before=json.loads(json.dumps(before)),
        alphas=[0.1, 1.0],
        offsets=[-1.0, 0.0, 1.0],
    )
    assert found["alpha"] == 0.1 == tuned.written
    assert found["curve"][1.0]["own"]["all_ap50"] == 30
    assert found["plain"]["kept"]["all_ap50"] == 20
    assert found["offset"] == 1.0
    assert found["together"]["calibrated"]["kept"]["all_ap50"] == 39
    # Killed at its end and called again: all answers are there.
    again = Steady()
    assert (
        examine_trained(folder, again, before=before, alphas=[0.1, 1.0], offsets=[-1.0, 0.0, 1.0])
        == found
    )
    assert not again.asked and again.written == 0.1


def test_nobody_to_ask(tmp_path):
    with pytest.raises(KeyError):
        Answers(tmp_path)[Question(0.0, "own", "choose")]
