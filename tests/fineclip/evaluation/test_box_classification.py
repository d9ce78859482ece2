import numpy as np
import pytest
import torch

from fineclip.evaluation.box_classification import (
    BoxClassificationMetric,
    box_classification,
    class_groups_of,
    mean_class_accuracy,
    rank_classes,
)
from fineclip.text.vocabulary import Category, Vocabulary, load_vocabulary

THINGS = Vocabulary("toy", (Category("cat", 1, isthing=True), Category("sky", 2, isthing=False)))


def slow_mean_accuracy(predictions, labels, k):
    shares = []
    for label in sorted(set(labels)):
        rows = [row[:k] for row, own in zip(predictions, labels, strict=True) if own == label]
        shares.append(sum(label in row for row in rows) / len(rows))
    return 100 * sum(shares) / len(shares)


def test_mean_over_classes_not_over_regions():
    # class 0: 1 of 3, class 7: 1 of 1; the classes between do not occur
    correct = np.array([True, False, False, True])
    assert mean_class_accuracy(correct, np.array([0, 0, 0, 7])) == pytest.approx(
        100 * (1 / 3 + 1) / 2
    )


def test_no_rounding_to_half_precision():
    correct = np.arange(3000) < 1001
    accuracy = mean_class_accuracy(correct, np.zeros(3000, dtype=int))
    assert accuracy == pytest.approx(100 * 1001 / 3000, abs=1e-10)


def test_nothing_has_no_accuracy():
    with pytest.raises(ValueError, match="not defined"):
        mean_class_accuracy(np.zeros(0, bool), np.zeros(0, int))


def test_result_by_hand():
    predictions = np.array([[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [5, 4, 3, 2, 1], [9, 8, 7, 6, 5]])
    labels = np.array([0, 0, 1, 9])
    areas = np.array([1023.0, 1024.0, 9215.0, 9216.0])
    groups = {"thing": np.arange(10) < 2, "stuff": np.arange(10) >= 2, "none": np.zeros(10, bool)}
    assert box_classification(predictions, labels, areas, groups) == pytest.approx(
        {
            "box_top1": 100 * (0.5 + 0 + 1) / 3,
            "box_top5": 100.0,
            "thing_box_top1": 25.0,
            "thing_box_top5": 100.0,
            "stuff_box_top1": 100.0,
            "stuff_box_top5": 100.0,
            "small_box_top1": 100.0,
            "small_box_top5": 100.0,
            "medium_box_top1": 0.0,
            "medium_box_top5": 100.0,
            "large_box_top1": 100.0,
            "large_box_top5": 100.0,
            "box_regions": 4,
            "box_classes": 3,
        }
    )


def test_agrees_with_a_plain_implementation():
    rng = np.random.default_rng(0)
    predictions = np.stack([rng.permutation(12)[:5] for _ in range(200)])
    labels = rng.choice([0, 1, 4, 5, 11], size=200)
    areas = rng.uniform(64, 20000, size=200)
    group = rng.random(12) < 0.5
    results = box_classification(predictions, labels, areas, {"thing": group})
    inside = group[labels]
    small = areas < 1024
    for k in (1, 5):
        assert results[f"box_top{k}"] == pytest.approx(slow_mean_accuracy(predictions, labels, k))
        assert results[f"thing_box_top{k}"] == pytest.approx(
            slow_mean_accuracy(predictions[inside], labels[inside], k)
        )
        assert results[f"small_box_top{k}"] == pytest.approx(
            slow_mean_accuracy(predictions[small], labels[small], k)
        )


def test_fewer_than_five_candidates():
    results = box_classification(np.array([[1, 0], [1, 0]]), np.array([0, 1]), np.ones(2))
    assert (results["box_top1"], results["box_top5"]) == (50.0, 100.0)


def test_no_region_gives_counts_only():
    results = box_classification(np.zeros((0, 5), int), np.zeros(0, int), np.zeros(0))
    assert results == {"box_regions": 0, "box_classes": 0}


def test_shapes_and_labels_are_checked():
    with pytest.raises(ValueError, match=r"got shapes \(2, 1\), \(1,\) and \(1,\)"):
        box_classification(np.zeros((2, 1)), np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match="class group 'thing' is about 2 classes"):
        box_classification(
            np.zeros((1, 1), int), np.array([2]), np.ones(1), {"thing": np.ones(2, bool)}
        )


def test_ranking_and_ties():
    classes = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.6, 0.8], [0.0, 1.0]])
    regions = torch.tensor([[0.6, 0.8], [1.0, 0.0]])
    assert rank_classes(regions, classes, 3).tolist() == [[1, 2, 3], [0, 1, 2]]
    assert rank_classes(regions, classes, 9).shape == (2, 4)
    # the same order from the other side: the lower index wins, not the later row
    assert rank_classes(regions[:1], classes.flip(0), 3).tolist() == [[1, 2, 0]]


def test_collapsed_embeddings_are_all_class_zero_at_any_batch_size():
    one = torch.nn.functional.normalize(torch.randn(1, 64, generator=torch.manual_seed(0)))
    for rows in (1, 3, 64):
        ranks = rank_classes(one.expand(rows, -1), one.expand(133, -1), 5)
        assert (ranks == np.arange(5)).all()


def test_a_broken_embedding_is_wrong_for_every_class():
    regions = torch.tensor([[float("nan"), 1.0], [1.0, 0.0]])
    assert rank_classes(regions, torch.eye(2), 2).tolist() == [[-1, -1], [0, 1]]


def test_class_groups():
    groups = class_groups_of(load_vocabulary("coco_panoptic"))
    assert set(groups) == {"thing", "stuff"}
    assert (groups["thing"].sum(), groups["stuff"].sum()) == (80, 53)
    # ov_coco has things alone, which is no distinction, but two splits
    groups = class_groups_of(load_vocabulary("ov_coco"))
    assert {name: int(members.sum()) for name, members in groups.items()} == {
        "base": 48,
        "novel": 17,
    }


class OneHot:
    """Embeds "a photo of a cat." as (1, 0) and anything else as (0, 1)."""

    device = torch.device("cpu")

    def tokenizer(self, texts):
        return torch.tensor([[int("cat" in text), int("cat" not in text)] for text in texts])

    def encode_text(self, tokens, normalize=True):
        return tokens.float()


def sample(image_id, regions, labels):
    return {
        "image_id": image_id,
        "region_embeddings": torch.tensor(regions).reshape(-1, 2),
        "labels": np.array(labels, dtype=np.int64),
        "areas": np.full(len(labels), 5000.0),
    }


def test_metric_counts_a_repeated_image_once_and_keeps_little():
    metric = BoxClassificationMetric(THINGS, "photo")
    metric.prepare(OneHot())
    first = sample(1, [[1.0, 0.0], [0.0, 1.0]], [0, 0])
    metric.process({"skipped": [("bad.jpg", "broken")]}, [first])
    metric.process({"skipped": []}, [sample(2, [[0.0, 1.0]], [1]), first])
    assert set(metric.results[0]) == {"image_id", "predictions", "labels", "areas"}
    assert metric.results[0]["predictions"].tolist() == [[0, 1], [1, 0]]
    results = metric.evaluate(size=2)
    assert results["box_regions"] == 3
    assert results["box_top1"] == pytest.approx(75.0)
    assert results["thing_box_top1"] == pytest.approx(50.0)
    assert results["stuff_box_top1"] == pytest.approx(100.0)
    assert results["box_skipped"] == 1
    # and it starts afresh
    metric.process({"skipped": []}, [sample(2, [[0.0, 1.0]], [1])])
    again = metric.evaluate(size=2)
    assert (again["box_regions"], again["box_skipped"]) == (1, 0)


def test_metric_takes_the_vocabulary_of_the_data_set():
    metric = BoxClassificationMetric(templates="name")
    with pytest.raises(ValueError, match="no vocabulary"):
        metric.prepare(OneHot())
    metric.dataset_meta = {"vocabulary": THINGS}
    metric.prepare(OneHot())
    assert metric.vocabulary is THINGS


def test_metric_embeds_what_goes_into_prompts():
    named = Category("n01", 1, isthing=True, prompt="cat")
    metric = BoxClassificationMetric(Vocabulary("toy", (named, THINGS.categories[1])), "photo")
    metric.prepare(OneHot())
    metric.process({"skipped": []}, [sample(1, [[1.0, 0.0], [0.0, 1.0]], [0, 1])])
    assert metric.evaluate(size=1)["box_top1"] == pytest.approx(100.0)


def test_metric_without_regions():
    metric = BoxClassificationMetric(THINGS)
    metric.prepare(OneHot())
    empty = sample(1, [], [])
    del empty["region_embeddings"]  # what the model returns for a batch without boxes
    metric.process({"skipped": []}, [empty])
    assert metric.evaluate(1) == {"box_regions": 0, "box_classes": 0, "box_skipped": 0}
    assert metric.evaluate(1)["box_regions"] == 0


def test_metric_must_be_prepared():
    with pytest.raises(RuntimeError, match="prepare"):
        BoxClassificationMetric(THINGS).process({}, [])
