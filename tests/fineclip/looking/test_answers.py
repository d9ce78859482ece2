"""What a model says of a photograph, against the model asked directly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fineclip.explain import relevance_maps
from fineclip.looking import Looker, cells_of_grid
from fineclip.models import DenseCLIP

WORDS = ("a", "b", "c")


@pytest.fixture(scope="module")
def looker():
    torch.manual_seed(0)
    clip = DenseCLIP.create("ViT-Ti-8-scenes").eval()
    return Looker(clip, WORDS, F.normalize(torch.randn(3, clip.embed_dim), dim=1))


@pytest.fixture(scope="module")
def image():
    pixels = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_what_is_said_is_what_the_model_says(looker, image):
    """Against encode_regions, one region at a time, and the dense map's own locations."""
    clip, embeddings = looker.clip, looker.embeddings
    answer = looker.look(image, cells_of_grid(2)(None, image))
    tensor, scale = clip.preprocess(image)[None], clip.logit_scale.exp()
    with torch.no_grad():
        whole = clip.encode_image(tensor) @ embeddings.T
        region = clip.encode_regions(tensor, [torch.tensor([[0.5, 0, 1, 0.5]])]) @ embeddings.T
        dense = clip.encode_dense(tensor)[0, :, 2, 3] @ embeddings.T
    assert torch.allclose(answer.similarities, whole[0], atol=1e-6)
    assert torch.allclose(answer.scores, (scale * whole[0]).softmax(0), atol=1e-5)
    assert torch.allclose(answer.region_scores[1], (scale * region[0]).softmax(0), atol=1e-5)
    assert torch.allclose(answer.maps["dense"][:, 2, 3], dense, atol=1e-6)
    best = int(whole.argmax())
    assert answer.best(1) == [best] and answer.maps.keys() == {"dense"}
    assert answer.said(1) == f"{WORDS[best]} {answer.scores[best]:.2f}"


def test_the_best_words_are_explained(looker, image):
    """Within no_grad, and without regions."""
    with torch.no_grad():
        answer = looker.look(image, torch.zeros(0, 4), explained=2)
    assert answer.region_scores.shape == (0, 3)
    pixels, maps = looker.clip.preprocess(image)[None], answer.maps["relevance"]
    assert maps.shape == answer.maps["dense"].shape and not maps.requires_grad
    for place, index in enumerate(answer.best(3)):
        if place == 2:
            assert maps[index].isnan().all()
            continue
        expected = relevance_maps(looker.clip, pixels, looker.embeddings[index][None]).image
        assert torch.equal(maps[index], expected[0]) and expected.std() > 0
        assert torch.equal(looker.relevance(image, [index]), expected)


def test_a_sigmoid_model_scores_each_word_for_itself(image):
    torch.manual_seed(0)
    clip = DenseCLIP.create("Sigmoid-Ti-16").eval()
    embeddings = F.normalize(torch.randn(3, clip.embed_dim), dim=1)
    answer = Looker(clip, WORDS, embeddings).look(image, cells_of_grid(1)(None, image))
    logits = clip.logit_scale.exp() * answer.similarities + clip.logit_bias
    assert torch.allclose(answer.scores, logits.sigmoid(), rtol=1e-4)
    assert answer.scores.sum() < 0.1
