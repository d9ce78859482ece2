import pytest
import torch
import torch.nn.functional as F

from fineclip.evaluation.retrieval import RetrievalMetric, retrieval_recall


def slow_recall(images, texts, text_image, k):
    """Sorts every candidate list in plain Python; ties go to the lower index."""
    i2t, t2i = [], []
    for i, image in enumerate(images.double()):
        own = {t for t in range(len(texts)) if text_image[t] == i}
        if own:
            scores = [round(float(image @ text), 9) for text in texts.double()]
            best = sorted(range(len(texts)), key=lambda t: (-scores[t], t))[:k]
            i2t.append(bool(own & set(best)))
    for t, text in enumerate(texts.double()):
        scores = [round(float(text @ image), 9) for image in images.double()]
        best = sorted(range(len(images)), key=lambda i: (-scores[i], i))[:k]
        t2i.append(int(text_image[t]) in best)
    return 100 * sum(i2t) / len(i2t), 100 * sum(t2i) / len(t2i)


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.manual_seed(seed)), dim=1)


def test_by_hand():
    images = torch.eye(3)
    # image 0: its second caption is right; image 1: its caption looks like image 2; image 2: fine
    texts = torch.tensor([[0.6, 0.8, 0.0], [1.0, 0.0, 0.0], [0.0, 0.6, 0.8], [0.0, 0.0, 1.0]])
    recall = retrieval_recall(images, texts, torch.tensor([0, 0, 1, 2]), ks=(1, 2))
    # Image 1's best text is text 0 (0.8) before its own (0.6).
    assert recall["i2t_r1"] == pytest.approx(100 * 2 / 3)
    assert recall["i2t_r2"] == pytest.approx(100.0)
    # Texts 0 and 2 prefer a foreign image, their own comes second.
    assert recall["t2i_r1"] == pytest.approx(50.0)
    assert recall["t2i_r2"] == pytest.approx(100.0)


def test_images_without_caption_are_candidates_but_no_queries():
    images = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    texts = torch.tensor([[0.8, 0.6]])
    recall = retrieval_recall(images, texts, torch.tensor([0]), ks=(1, 2))
    assert recall == {"i2t_r1": 100.0, "i2t_r2": 100.0, "t2i_r1": 0.0, "t2i_r2": 100.0}


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
def test_agrees_with_a_plain_implementation_in_any_chunks(chunk_size):
    images, texts = unit(20, 4), unit(50, 4, seed=1)
    text_image = torch.randint(0, 18, (50,), generator=torch.manual_seed(2))
    images[3] = images[5]  # ties
    texts[10] = texts[11] = texts[40]
    recall = retrieval_recall(images, texts, text_image, (1, 5, 10), chunk_size)
    for k in (1, 5, 10):
        assert (recall[f"i2t_r{k}"], recall[f"t2i_r{k}"]) == pytest.approx(
            slow_recall(images, texts, text_image, k)
        )


def test_a_collapsed_model_scores_like_guessing():
    one = unit(1, 32)
    recall = retrieval_recall(one.expand(100, -1), one.expand(100, -1), torch.arange(100))
    assert recall["i2t_r1"] == recall["t2i_r1"] == pytest.approx(1.0)
    assert recall["i2t_r10"] == recall["t2i_r10"] == pytest.approx(10.0)


def test_of_equal_candidates_the_lower_index_comes_first():
    twins = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    for own, rank_one in ((0, 100.0), (1, 0.0)):
        recall = retrieval_recall(twins, twins[:1], torch.tensor([own]), ks=(1, 2))
        assert (recall["t2i_r1"], recall["t2i_r2"]) == (rank_one, 100.0)


def test_broken_embeddings_are_misses():
    images = torch.full((3, 2), float("nan"))
    recall = retrieval_recall(images, unit(3, 2), torch.arange(3), ks=(1, 3))
    assert set(recall.values()) == {0.0}


def test_a_broken_candidate_counts_as_ahead():
    images = torch.tensor([[1.0, 0.0], [float("nan"), 0.0]])
    recall = retrieval_recall(images, torch.tensor([[1.0, 0.0]]), torch.tensor([0]), ks=(1, 2))
    assert (recall["t2i_r1"], recall["t2i_r2"]) == (0.0, 100.0)


def test_no_text_no_result_and_bad_indices():
    assert retrieval_recall(unit(2, 3), torch.zeros(0, 3), torch.zeros(0)) == {}
    with pytest.raises(ValueError, match=r"one entry for each of the 2 texts, got shape \(3,\)"):
        retrieval_recall(unit(2, 3), unit(2, 3), torch.zeros(3))
    with pytest.raises(ValueError, match=r"in \[0, 2\), got 0 to 2"):
        retrieval_recall(unit(2, 3), unit(2, 3), torch.tensor([0, 2]))


def test_metric_counts_an_image_once_and_does_not_keep_the_batch():
    metric = RetrievalMetric(ks=(1,))
    batch = torch.eye(3)
    samples = [
        {"image_id": i, "image_embedding": batch[i], "text_embeddings": batch[i : i + 1]}
        for i in range(3)
    ]
    del samples[2]["text_embeddings"]
    metric.process({"skipped": []}, [*samples, samples[0]])
    assert metric.results[0]["image_embedding"].untyped_storage().nbytes() == 3 * 4
    assert metric.evaluate(size=3) == {
        "i2t_r1": 100.0,
        "t2i_r1": 100.0,
        "retrieval_images": 3,
        "retrieval_texts": 2,
        "retrieval_skipped": 0,
    }


def test_metric_does_not_depend_on_the_order_of_images():
    one = unit(1, 8)[0]
    samples = [
        {"image_id": i, "image_embedding": one, "text_embeddings": one[None]} for i in range(4)
    ]
    results = []
    for order in (samples, samples[::-1]):
        metric = RetrievalMetric(ks=(1,))
        metric.process(None, order)
        results.append(metric.evaluate(4))
    assert results[0] == results[1]


def test_metric_without_any_image():
    metric = RetrievalMetric()
    metric.process({"skipped": [("a.jpg", "broken")]}, [])
    assert metric.evaluate(1) == {
        "retrieval_images": 0,
        "retrieval_texts": 0,
        "retrieval_skipped": 1,
    }
