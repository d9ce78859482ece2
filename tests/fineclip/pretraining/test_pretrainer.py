import pytest
import torch

from fineclip.models import DenseCLIP
from fineclip.objectives import (
    FILIP,
    PACL,
    SPARC,
    CLIPSelfDistillation,
    GlobalContrastive,
    RegionContrastive,
    SelfDistillation,
)
from fineclip.pretraining import FineCLIPPretrainer


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
    """Notes the passes through the towers of a DenseCLIP: what is made of how many rows."""

    def __init__(self, monkeypatch, clip):
        self.calls = []
        encode_visual, encode_text = clip.encode_visual, clip.encode_text
        encode_text_and_tokens = clip.encode_text_and_tokens

        def record_visual(images, outputs, normalize=True):
            self.calls.append(("+".join(sorted(outputs)), len(images)))
            return encode_visual(images, outputs, normalize)

        def record_text(tokens):
            self.calls.append(("text", len(tokens)))
            return encode_text(tokens)

        def record_tokens(tokens, normalize=True):
            self.calls.append(("text tokens", len(tokens)))
            return encode_text_and_tokens(tokens, normalize)

        monkeypatch.setattr(clip, "encode_visual", record_visual)
        monkeypatch.setattr(clip, "encode_text", record_text)
        monkeypatch.setattr(clip, "encode_text_and_tokens", record_tokens)


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [
        ([GlobalContrastive], [("image", 2), ("text", 2)]),
        ([RegionContrastive], [("dense", 2), ("text", 3)]),
        ([SelfDistillation], [("dense", 2), ("image", 3)]),
        (
            [GlobalContrastive, RegionContrastive, SelfDistillation],
            [("dense+image", 2), ("image", 3), ("text", 5)],
        ),
        ([CLIPSelfDistillation], [("dense", 2)]),  # the teacher is another model
        ([PACL], [("patches", 2), ("text", 2)]),
        ([FILIP, RegionContrastive], [("dense+patches", 2), ("text tokens", 2), ("text", 3)]),
        ([SPARC], [("image+patches", 2), ("text tokens", 2)]),
    ],
)
def test_only_what_objectives_need_is_computed(clip, monkeypatch, objectives, expected):
    model = FineCLIPPretrainer(clip, [objective() for objective in objectives])
    recorder = Recorder(monkeypatch, clip)
    model(**make_batch(), mode="loss")
    assert sorted(recorder.calls) == sorted(expected)


def test_lengths_of_patches_and_tokens_are_kept(clip):
    """SPARC may weigh patches by them; all other embeddings have length one."""
    batch = make_batch()
    embeddings = FineCLIPPretrainer(clip, [SPARC()]).embed(**batch)
    for name in ("image", "text"):
        torch.testing.assert_close(getattr(embeddings, name).norm(dim=-1), torch.ones(2))
    patches = clip.encode_patches(batch["images"], normalize=False)
    torch.testing.assert_close(embeddings.patches, patches)
    tokens, _ = clip.encode_text_tokens(batch["texts"], normalize=False)
    torch.testing.assert_close(embeddings.text_tokens, tokens)


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
