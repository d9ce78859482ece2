"""Confusion matrices: worked by hand, and against counting class by class."""

import numpy as np
import pytest

from fineclip.evaluation.confusion import SegmentationScores, count_confusion


def test_by_hand():
    labels = np.uint8([[0, 0, 0, 1], [1, 255, 255, 3]])
    predictions = np.array([[0, 0, 1, 1], [2, 0, 1, 3]])
    confusion = count_confusion(labels, predictions, 4, 255)
    assert confusion.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    scores = SegmentationScores.from_confusion(confusion)
    np.testing.assert_array_equal(scores.iou, [2 / 3, 1 / 3, np.nan, 1])
    np.testing.assert_array_equal(scores.accuracy, [2 / 3, 1 / 2, np.nan, 1])
    assert scores.pixels.tolist() == [3, 2, 0, 1]
    assert scores.mean_iou() == pytest.approx(2 / 3, abs=1e-15)
    assert scores.mean_accuracy() == pytest.approx((2 / 3 + 1 / 2 + 1) / 3, abs=1e-15)
    assert scores.frequency_weighted_iou == pytest.approx((3 * 2 / 3 + 2 / 3 + 1) / 6, abs=1e-15)
    assert scores.pixel_accuracy == pytest.approx(4 / 6, abs=1e-15)
    # Class 2 has no pixels: it does not enter the mean of its group.
    assert scores.mean_iou([False, True, True, False]) == pytest.approx(1 / 3, abs=1e-15)
    assert scores.mean_accuracy([True, False, False, True]) == pytest.approx(5 / 6, abs=1e-15)


@pytest.mark.parametrize(("classes", "ignore"), [(7, 255), (847, 65535), (459, 459)])
def test_against_counting_class_by_class(classes, ignore):
    random = np.random.default_rng(classes)
    labels = random.integers(0, min(classes, 12), (40, 50)).astype(np.uint16)
    predictions = np.where(random.random((40, 50)) < 0.6, labels, random.integers(0, classes, 1))
    labels[random.random((40, 50)) < 0.2] = ignore
    scores = SegmentationScores.from_confusion(
        count_confusion(labels, predictions, classes, ignore)
    )
    valid = labels != ignore
    ious, accuracies = [], []
    for k in range(classes):
        true, found = (labels == k) & valid, (predictions == k) & valid
        if not true.any():
            assert np.isnan(scores.iou[k]) and np.isnan(scores.accuracy[k])
            continue
        ious.append((true & found).sum() / (true | found).sum())
        accuracies.append((true & found).sum() / true.sum())
        assert scores.iou[k] == ious[-1] and scores.accuracy[k] == accuracies[-1]
    assert scores.mean_iou() == pytest.approx(np.mean(ious), rel=1e-14)
    assert scores.mean_accuracy() == pytest.approx(np.mean(accuracies), rel=1e-14)
    assert scores.pixel_accuracy == pytest.approx((labels == predictions)[valid].mean(), rel=1e-14)


def test_nothing_labelled():
    scores = SegmentationScores.from_confusion(
        count_confusion(np.full((2, 2), 255), np.zeros((2, 2), int), 3, 255)
    )
    values = [scores.mean_iou(), scores.mean_accuracy(), scores.pixel_accuracy]
    assert np.isnan([*values, scores.frequency_weighted_iou, scores.mean_iou([True] * 3)]).all()


def test_large_maps_do_not_overflow():
    # 8-bit labels times the number of classes do not fit into 8 bits.
    labels = np.full((3, 3), 200, np.uint8)
    confusion = count_confusion(labels, labels.astype(np.int64), 201, 255)
    assert confusion[200, 200] == 9 and confusion.sum() == 9


def test_bad_input():
    with pytest.raises(ValueError, match=r"labels are \(2,\), predictions \(3,\)"):
        count_confusion(np.zeros(2, int), np.zeros(3, int), 2, 255)
    with pytest.raises(ValueError, match="predictions reach from 0 to 2, the 2 classes"):
        count_confusion(np.array([0, 1]), np.array([0, 2]), 2, 255)
    with pytest.raises(ValueError, match="labels reach from 1 to 4"):
        count_confusion(np.array([4, 1]), np.array([0, 1]), 2, 255)
