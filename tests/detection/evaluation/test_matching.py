"""Annotated boxes get the best detection there, for pictures and confusions."""

import numpy as np

from detection.evaluation.matching import EXTRAS, matched_regions


def test_the_highest_score_at_a_place_answers():
    truth = [((0, 0, 10, 10), 3), ((50, 50, 10, 10), 4)]
    boxes = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [30, 30, 31, 31], [0, 0, 3, 3]])
    found = matched_regions(truth, boxes, np.array([1, 3, 2, 3]), np.array([0.9, 0.8, 0.7, 0.1]))
    answers = [(region.true, region.predicted, region.score) for region in found]
    assert answers[:2] == [(3, 1, 0.9), (4, None, None)]
    assert answers[2:] == [(None, 3, 0.8), (None, 2, 0.7), (None, 3, 0.1)]
    assert found[3].box == (30, 30, 1, 1)


def test_nothing_annotated_or_nothing_found():
    none = np.zeros((0, 4))
    assert matched_regions([], none, np.zeros(0, int), np.zeros(0)) == []
    (missed,) = matched_regions([((0, 0, 1, 1), 0)], none, np.zeros(0, int), np.zeros(0))
    assert (missed.true, missed.predicted, missed.right) == (0, None, False)
    many = np.tile([0.0, 0.0, 5.0, 5.0], (EXTRAS + 3, 1))
    assert len(matched_regions([], many, np.zeros(EXTRAS + 3, int), np.ones(EXTRAS + 3))) == EXTRAS
