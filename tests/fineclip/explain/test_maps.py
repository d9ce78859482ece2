"""Relevance maps against a loop in float64, for every family of towers."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

from fineclip.explain import relevance_maps
from fineclip.models import DenseCLIP
from fineclip.models.attention import recorded_attention

TEXTS = ["a red ring", "two blue squares on a green floor"]
AGAINST = ["a photo", "a yellow star"]


@pytest.fixture(scope="module", params=["ViT-Ti-16", "EVA02-Ti-16", "Sigmoid-Ti-16"])
def clip(request):
    torch.manual_seed(0)
    return DenseCLIP.create(request.param).double().eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1)).double()


def looped(attention, gradients):
    """R of one sample: the paper's equations as they are written."""
    relevance = torch.eye(attention[0].shape[-1], dtype=torch.float64)
    for probabilities, gradient in zip(attention, gradients, strict=True):
        mean = torch.zeros_like(relevance)
        for head in range(len(probabilities)):
            mean += (gradient[head] * probabilities[head]).clamp(min=0) / len(probabilities)
        relevance = relevance + mean @ relevance
    return relevance


def pooled(relevance, attention, gradient):
    """A SigLIP's query on top of R, equations 8 to 10."""
    own = relevance - torch.eye(len(relevance))
    normalised = own / own.sum(dim=1, keepdim=True) + torch.eye(len(own))
    return (gradient * attention).clamp(min=0).mean(dim=0)[0] @ normalised


@pytest.mark.parametrize("contrast", [None, "margin", "probability"])
def test_maps_are_those_of_the_papers_loop(clip, images, contrast):
    tokens = clip.tokenizer(TEXTS)
    against = {"against": AGAINST, "contrast": contrast} if contrast else {}
    found = relevance_maps(clip, images, TEXTS, parts=True, **against)
    for index, length in enumerate((5, 9)):
        with recorded_attention() as seen:
            image = clip.encode_image(images[index : index + 1], normalize=False)
            of_image = len(seen)
            text = clip.encode_text(tokens[index : index + 1], normalize=False)
        others = clip.encode_text(clip.tokenizer(AGAINST), normalize=False).detach()
        cosines = F.normalize(image) @ F.normalize(torch.cat([text, others])).T
        logits = clip.logit_scale.exp() * cosines[0]
        score = {
            None: logits[0],
            "margin": logits[0] - (logits[1] + logits[2]) / 2,
            "probability": logits.softmax(0)[0],
        }[contrast]
        gradients = [gradient[0] for gradient in torch.autograd.grad(score, seen)]
        attention = [probabilities[0].detach() for probabilities in seen]
        torch.testing.assert_close(found.scores[index], score.detach())
        if clip.trunk.pooling == "attention":
            below = looped(attention[: of_image - 1], gradients[: of_image - 1])
            row = pooled(below, attention[of_image - 1], gradients[of_image - 1])
        else:
            row = looped(attention[:of_image], gradients[:of_image])[0, 1:]
        torch.testing.assert_close(found.image[index].flatten(), row)
        whole = looped(attention[of_image:], gradients[of_image:])
        last = min(length, len(whole)) - 1 if clip.text_tower.trims else len(whole) - 1
        row = (whole - torch.eye(len(whole)))[last]
        torch.testing.assert_close(found.text[index, : len(row)], row)
        assert not found.text[index, len(row) :].any()
    assert found.image.shape == (2, 2, 3)
    assert found.image.min() >= 0 < found.image.max()
    torch.testing.assert_close(found.image_parts.sum(dim=(1, 2)), found.image)
    torch.testing.assert_close(found.text_parts.sum(dim=(1, 2)), found.text)
    assert (found.image_parts.sum(dim=(0, 3, 4)) > 0).all(), "every layer and head has a share"


def test_outputs_are_those_of_the_fused_kernel(clip, images):
    tokens = clip.tokenizer(TEXTS)
    with torch.no_grad():
        before = clip(images, tokens)
        with recorded_attention() as seen:
            torch.testing.assert_close(clip(images, tokens), before)
        assert not any(probabilities.requires_grad for probabilities in seen)
        torch.testing.assert_close(clip(images, tokens), before)
    for probabilities in seen:
        torch.testing.assert_close(probabilities.sum(-1), torch.ones_like(probabilities[..., 0]))


def test_other_threads_are_not_recorded():
    heads = torch.randn(1, 1, 3, 4)
    with recorded_attention() as seen, ThreadPoolExecutor() as pool:
        other = pool.submit(F.scaled_dot_product_attention, heads, heads, heads, enable_gqa=True)
        assert other.result().shape == heads.shape and not seen
        F.scaled_dot_product_attention(heads, heads, heads)
    assert len(seen) == 1


def test_a_model_is_left_as_it_was(images):
    clip = DenseCLIP.create("ViT-Ti-16").train()
    clip.trunk.blocks[0].eval()
    clip.clip.set_grad_checkpointing(True)
    frozen = next(clip.parameters()).requires_grad_(False)
    attend = F.scaled_dot_product_attention
    with torch.inference_mode():
        found = relevance_maps(clip, images.float(), TEXTS)
    assert found.image.any() and not found.image.requires_grad
    assert attend is F.scaled_dot_product_attention
    assert clip.training and not clip.trunk.blocks[0].training and clip.trunk.blocks[1].training
    assert clip.trunk.grad_checkpointing
    assert [p for p in clip.parameters() if not p.requires_grad] == [frozen]
    assert all(parameter.grad is None for parameter in clip.parameters())
    plain = DenseCLIP.create("ViT-Ti-16").requires_grad_(False)
    plain.load_state_dict(clip.state_dict())
    torch.testing.assert_close(relevance_maps(plain, images.float(), TEXTS).image, found.image)


def test_embeddings_stand_for_texts_and_the_image_is_explained_alone(clip, images):
    whole = relevance_maps(clip, images, TEXTS, against=AGAINST)
    embeddings, against = (
        clip.encode_text(clip.tokenizer(texts)).detach() for texts in (TEXTS, AGAINST)
    )
    found = relevance_maps(clip, images, embeddings, against=against)
    assert found.text is None and found.image_parts is None
    torch.testing.assert_close(found.image, whole.image, rtol=1e-5, atol=1e-9)
    with pytest.raises(ValueError, match="only the image"):
        found.words(clip)


def test_mean_pooling_reads_every_patch():
    clip = DenseCLIP.create("ViT-Ti-16").eval()
    images = torch.randn(1, 3, 32, 32)
    clip.clip.visual.pool_type = "avg"
    with recorded_attention() as seen:
        image = clip.encode_image(images, normalize=False)
    text = clip.encode_text(clip.tokenizer(TEXTS[:1]), normalize=False).detach()
    score = clip.logit_scale.exp() * F.cosine_similarity(image, text)[0]
    gradients = torch.autograd.grad(score, seen)
    whole = looped([a[0].detach() for a in seen], [g[0] for g in gradients]).float()
    expected = (whole - torch.eye(5))[1:, 1:].mean(dim=0)
    found = relevance_maps(clip, images, TEXTS[:1]).image.flatten()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_what_cannot_be_explained_is_refused_in_a_line(images):
    resnet = DenseCLIP.create("RN-Ti")
    with pytest.raises(ValueError, match="ModifiedResNet lacks: take a ViT"):
        relevance_maps(resnet, images, TEXTS)
    clip = DenseCLIP.create("ViT-Ti-16")
    with pytest.raises(ValueError, match="2 images and 1 texts"):
        relevance_maps(clip, images.float(), TEXTS[:1])
    with pytest.raises(ValueError, match="unknown contrast"):
        relevance_maps(clip, images.float(), TEXTS, contrast="ratio")
    with pytest.raises(ValueError, match="multiples of the patch"):
        relevance_maps(clip, torch.zeros(2, 3, 30, 32), TEXTS)
