import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from torch.utils.data import DataLoader

from fineclip.datasets.evaluation_batch import collate_evaluation
from fineclip.evaluation import evaluate, predict
from fineclip.evaluation.prediction import predictor
from fineclip.models import DenseCLIP
from fineclip.pretraining import FineCLIPPretrainer


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return DenseCLIP.create("ViT-Ti-16").eval()


def make_batch():
    return {
        "images": torch.randn(2, 3, 32, 32),
        "boxes": torch.tensor([[0.1, 0.1, 0.7, 0.6]]).repeat(3, 1),
        "region_image": torch.tensor([0, 1, 1]),
        "texts": torch.randint(1, 900, (3, 77)),
        "text_image": torch.tensor([0, 0, 1]),
        "data_samples": [{"image_id": 5}, {"image_id": 6}],
    }


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one.keys() - {"image_id"}:
            torch.testing.assert_close(one[name], other[name])


@torch.no_grad()
def test_embeddings_are_sorted_by_image(clip):
    batch = make_batch()
    results = predict(clip, **batch)
    assert [r["image_id"] for r in results] == [5, 6]
    assert [len(r["region_embeddings"]) for r in results] == [1, 2]
    assert [len(r["text_embeddings"]) for r in results] == [2, 1]
    boxes = [batch["boxes"][:1], batch["boxes"][1:]]
    expected = clip.encode_regions(batch["images"], boxes)
    torch.testing.assert_close(torch.cat([r["region_embeddings"] for r in results]), expected)
    images = torch.stack([r["image_embedding"] for r in results])
    torch.testing.assert_close(images, clip.encode_image(batch["images"]))


def test_a_model_in_training_predicts_the_same(clip):
    batch = make_batch()
    same(FineCLIPPretrainer(clip, []).eval()(mode="predict", **batch), predict(clip, **batch))


def test_pixels_are_normalised_as_the_model_wants_them(clip):
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(v)[:, None, None] for v in (clip.image_mean, clip.image_std))
    samples = make_batch()["data_samples"]
    found = predictor(clip)({"images": pixels, "data_samples": samples})
    same(found, predict(clip, images=(pixels / 255 - mean) / std, data_samples=samples))


class Keep(BaseMetric):
    default_prefix = ""

    def process(self, data_batch, data_samples):
        self.results += data_samples

    def compute_metrics(self, results):
        return {"seen": results}


def test_evaluate_takes_a_clip_or_what_trains_one(clip):
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    items = [
        {"image": image, "data_sample": {"image_id": i}, "skipped": []}
        for i, image in enumerate(pixels)
    ]
    alone, trained = (
        evaluate(
            model,
            DataLoader(items, batch_size=2, collate_fn=collate_evaluation),
            Evaluator([Keep()]),
            progress=False,
        )["seen"]
        for model in (clip, FineCLIPPretrainer(clip, []))
    )
    assert [sample["image_id"] for sample in alone] == [0, 1, 2]
    same(alone, trained)
