import pytest
import torch

from fineclip.models import DenseCLIP, FineCLIPPretrainer, RegionTextPreprocessor
from fineclip.objectives import GlobalContrastive, RegionContrastive, SelfDistillation


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return DenseCLIP.create("ViT-Ti-16")


def make_batch(regions=3):
    return {
        "images": torch.randn(2, 3, 32, 32),
        "texts": torch.randint(1, 900, (2, 77)),
        "boxes": torch.tensor([[0.1, 0.1, 0.7, 0.6]]).repeat(regions, 1),
        "region_image": torch.arange(regions) % 2,
        "crops": torch.randn(regions, 3, 32, 32),
        "region_texts": torch.randint(1, 900, (regions, 77)),
    }


class Recorder:
    """Counts the calls to a DenseCLIP's encoders and the images they see."""

    def __init__(self, monkeypatch, clip):
        self.calls = []
        for name in ("encode_image", "encode_dense", "encode_image_and_dense", "encode_text"):
            original = getattr(clip, name)

            def record(batch, *args, _name=name, _original=original, **kwargs):
                self.calls.append((_name, len(batch)))
                return _original(batch, *args, **kwargs)

            monkeypatch.setattr(clip, name, record)


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [
        ([GlobalContrastive], [("encode_image", 2), ("encode_text", 2)]),
        ([RegionContrastive], [("encode_dense", 2), ("encode_text", 3)]),
        ([SelfDistillation], [("encode_dense", 2), ("encode_image", 3)]),
        (
            [GlobalContrastive, RegionContrastive, SelfDistillation],
            [("encode_image_and_dense", 2), ("encode_image", 3), ("encode_text", 5)],
        ),
    ],
)
def test_only_what_objectives_need_is_computed(clip, monkeypatch, objectives, expected):
    recorder = Recorder(monkeypatch, clip)
    model = FineCLIPPretrainer(clip, [objective() for objective in objectives])
    model(**make_batch(), mode="loss")
    assert recorder.calls == expected


def test_batch_without_regions_trains(clip):
    model = FineCLIPPretrainer(clip, [GlobalContrastive(), RegionContrastive(), SelfDistillation()])
    losses = model(**make_batch(regions=0), mode="loss")
    assert losses["loss_region"] == losses["loss_distill"] == losses["num_regions"] == 0
    assert losses["loss_global"] > 0


def test_frozen_parts_get_no_gradient_and_stay_in_eval(clip):
    model = FineCLIPPretrainer(clip, [GlobalContrastive()]).train()
    assert clip.clip.visual.training
    assert not clip.clip.transformer.training
    model.zero_grad()
    model(**make_batch(), mode="loss")["loss_global"].backward()
    with_gradient = {n.split(".")[2] for n, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {"visual", "logit_scale"}
    with pytest.raises(ValueError, match="unknown tower; known: image, text, logit_scale"):
        FineCLIPPretrainer(clip, [], trainable=("tower",))


def test_log_values_are_not_losses(clip):
    """mmengine adds up every key that contains "loss"."""
    model = FineCLIPPretrainer(clip, [GlobalContrastive(), SelfDistillation(weight=0.5)])
    outputs = model(**make_batch(), mode="loss")
    total, logged = model.parse_losses(outputs)
    assert total.item() == pytest.approx(
        outputs["loss_global"].item() + outputs["loss_distill"].item()
    )
    assert {"logit_scale", "num_regions"} <= logged.keys()


@torch.no_grad()
def test_predict_sorts_embeddings_by_image(clip):
    model = FineCLIPPretrainer(clip, []).eval()
    batch = make_batch()
    region_image, text_image = torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])
    results = model(
        mode="predict",
        images=batch["images"],
        boxes=batch["boxes"],
        region_image=region_image,
        texts=batch["region_texts"],
        text_image=text_image,
        data_samples=[{"image_id": 5}, {"image_id": 6}],
    )
    assert [r["image_id"] for r in results] == [5, 6]
    assert [len(r["region_embeddings"]) for r in results] == [1, 2]
    assert [len(r["text_embeddings"]) for r in results] == [2, 1]
    boxes = [batch["boxes"][:1], batch["boxes"][1:]]
    expected = clip.encode_regions(batch["images"], boxes)
    torch.testing.assert_close(torch.cat([r["region_embeddings"] for r in results]), expected)
    images = torch.stack([r["image_embedding"] for r in results])
    torch.testing.assert_close(images, clip.encode_image(batch["images"]))


def test_preprocessor_normalises_pixels_and_keeps_floats():
    preprocess = RegionTextPreprocessor(mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0))
    pixels = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    ready = torch.zeros(1, 3, 1, 1)
    batch = preprocess({"images": pixels, "crops": ready, "skipped": [("a", "b")]})
    assert batch["images"].flatten().tolist() == [2.0, 1.0, 0.5]
    assert torch.equal(batch["crops"], ready)
    assert "skipped" not in batch
