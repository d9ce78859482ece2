"""FILIP, SPARC and PACL against loops over every patch and token."""

import math

import pytest
import torch
from slow_loops import (
    LOG_TEN,
    assert_equals_slow,
    cosine,
    cross_entropy,
    dot,
    draw,
    info_nce,
    scalar,
    symmetric,
    unit,
)

from fineclip.embeddings import Embeddings
from fineclip.objectives import FILIP, PACL, SPARC
from fineclip.objectives.pacl import patch_compatibility
from fineclip.objectives.sparc import sparse_alignment

MASK = torch.tensor(
    [[1, 1, 1, 0], [1, 0, 1, 1], [0, 1, 0, 0]], dtype=torch.bool
)  # gaps and a single token


def make(images=3, patches=5):
    return Embeddings(
        image=draw(images, 6, seed=0),
        text=draw(images, 6, seed=1),
        patches=draw(images, patches, 6, seed=2),
        text_tokens=draw(images, 4, 6, seed=3),
        text_mask=MASK[:images],
        logit_scale=scalar(LOG_TEN),
    )


def unit_rows(rows):
    return [unit(row) for row in rows]


def tokens_of(e):
    """The tokens of each caption that are not padding, as lists of unit rows."""
    return [
        [unit(row) for row, keep in zip(rows, mask, strict=True) if keep]
        for rows, mask in zip(e.text_tokens, e.text_mask, strict=True)
    ]


def slow_filip(e):
    images, captions = [unit_rows(p) for p in e.patches], tokens_of(e)
    factor = e.logit_scale.exp()
    image_to_text = [
        [
            factor * sum(max(dot(p, t) for t in caption) for p in image) / len(image)
            for caption in captions
        ]
        for image in images
    ]
    text_to_image = [
        [
            factor * sum(max(dot(p, t) for p in image) for t in caption) / len(caption)
            for caption in captions
        ]
        for image in images
    ]
    return {"loss_filip": symmetric(image_to_text, text_to_image)}


def slow_groups(image, caption):
    """SPARC's language-grouped embedding of each token."""
    for token in caption:
        s = [dot(token, patch) for patch in image]
        u = [(x - min(s)) / (max(s) - min(s)) for x in s]
        w = [x if x >= 1 / len(image) else 0 * x for x in u]
        yield sum(weight / sum(w) * patch for weight, patch in zip(w, image, strict=True))


def slow_sparc(global_weight, local_weight, *, unit_patches=False, all_tokens=False):
    def slow(e):
        factor = e.logit_scale.exp()
        total = 0.0
        for patches, caption in zip(e.patches, tokens_of(e), strict=True):
            # The length of a token stretches all of its similarities alike.
            image = unit_rows(patches) if unit_patches else list(patches)
            groups = list(slow_groups(image, caption))
            of_caption = 0.0
            for k in range(len(caption)):
                of_caption += cross_entropy([factor * cosine(groups[k], t) for t in caption], k)
                of_caption += cross_entropy([factor * cosine(caption[k], c) for c in groups], k)
            total += of_caption / (2 if all_tokens else 2 * len(caption))
        count = e.text_mask.sum() if all_tokens else len(e.patches)
        return {
            "loss_sparc_global": global_weight * info_nce(e.image, e.text, factor),
            "loss_sparc_local": local_weight * total / count,
        }

    return slow


def slow_pacl(weight_of):
    def slow(e):
        table = []
        for patches in e.patches:
            image, row = unit_rows(patches), []
            for text in unit_rows(e.text):
                weights = [weight_of(dot(patch, text)) for patch in image]
                pooled = sum(w * patch for w, patch in zip(weights, image, strict=True))
                row.append(e.logit_scale.exp() * cosine(pooled / sum(weights), text))
            table.append(row)
        return {"loss_pacl": symmetric(table, table)}

    return slow


SLOW = [
    (FILIP(), slow_filip),
    (SPARC(), slow_sparc(0.5, 1.0)),
    (SPARC(global_weight=2.0, local_weight=0.3), slow_sparc(2.0, 0.3)),
    (SPARC(unit_patches=True), slow_sparc(0.5, 1.0, unit_patches=True)),
    (SPARC(mean="tokens"), slow_sparc(0.5, 1.0, all_tokens=True)),
    (PACL(factor=3), slow_pacl(lambda s: (3 * s).exp())),
    (PACL(activation="sigmoid", factor=3), slow_pacl(lambda s: 1 / (1 + (-3 * s).exp()))),
    (PACL(), slow_pacl(lambda s: s.exp())),
    (PACL(activation="sigmoid"), slow_pacl(lambda s: 1 / (1 + (-s).exp()))),
]


@pytest.mark.parametrize(("objective", "slow"), SLOW)
def test_equals_slow_loops(objective, slow):
    gradient = objective.needs - {"text_mask"}
    assert_equals_slow(objective, make(), slow, gradient=gradient)


@pytest.mark.parametrize("objective", [FILIP(), SPARC()])
def test_padding_tokens_change_nothing(objective):
    embeddings = make()
    before = objective(embeddings)
    embeddings.text_tokens = torch.where(MASK[..., None], embeddings.text_tokens, 1e3)
    assert objective(embeddings) == before


def test_filip_by_hand():
    """Two images of two patches, two captions of one token; factor ln 3."""
    a, b = [1.0, 0.0], [0.0, 1.0]
    embeddings = Embeddings(
        patches=torch.tensor([[a, a], [a, b]]),
        text_tokens=torch.tensor([[a], [b]]),
        text_mask=torch.ones(2, 1, dtype=torch.bool),
        logit_scale=torch.tensor(math.log(math.log(3))),
    )
    # Image to text: [[1, 0], [1/2, 1/2]]; text to image (by column): [[1, 0], [1, 1]].
    image_to_text = (math.log(4 / 3) + math.log(2)) / 2
    text_to_image = (math.log(2) + math.log(4 / 3)) / 2
    loss = FILIP()(embeddings)["loss_filip"].item()
    assert loss == pytest.approx((image_to_text + text_to_image) / 2)


def test_sparc_keeps_patches_from_the_threshold_on():
    """Similarities stretched to 0, 0.2, 0.5, 1 over four patches: 0.2 is below 1/4 and dropped."""
    weights = sparse_alignment(torch.tensor([[-1.0, -0.6, 0.0, 1.0], [0.3, 0.3, 0.3, 0.3]]))
    expected = torch.tensor([[0, 0, 1 / 3, 2 / 3], [1 / 4, 1 / 4, 1 / 4, 1 / 4]])
    torch.testing.assert_close(weights, expected)


def test_sparc_with_one_patch_is_finite():
    embeddings = make(patches=1)
    embeddings.patches.requires_grad_()
    loss = SPARC()(embeddings)["loss_sparc_local"]
    loss.backward()
    assert loss.isfinite()
    assert embeddings.patches.grad.isfinite().all()


def test_pacl_attends_to_the_matching_patch():
    """The weights of the two patches are e and 1 over their sum."""
    a, b = [1.0, 0.0], [0.0, 1.0]
    value = patch_compatibility(torch.tensor([[a, b]]), torch.tensor([a]))
    assert value.item() == pytest.approx(math.e / math.hypot(math.e, 1))


@pytest.mark.parametrize("objective", [FILIP(), SPARC(), PACL()])
def test_no_images_give_a_connected_zero(objective):
    embeddings = make(images=0)
    inputs = [getattr(embeddings, name) for name in objective.needs - {"text_mask"}]
    for value in inputs:
        value.requires_grad_()
    losses = objective(embeddings)
    assert all(loss.item() == 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(value.grad is not None for value in inputs)


@pytest.mark.parametrize("objective", [FILIP(), SPARC()])
def test_a_caption_without_tokens_is_named(objective):
    embeddings = make()
    embeddings.text_mask = MASK & torch.tensor([[True], [False], [True]])
    with pytest.raises(ValueError, match=r"no token to the captions of rows \[1\]"):
        objective(embeddings)


@pytest.mark.parametrize("mask", [MASK.float(), MASK[:, :2]])
def test_a_mask_that_does_not_fit_is_refused(mask):
    embeddings = make()
    embeddings.text_mask = mask
    with pytest.raises(ValueError, match=r"expected bool of shape \(3, 4\)"):
        FILIP()(embeddings)


def test_unknown_activation_lists_the_known():
    with pytest.raises(ValueError, match="'relu'; known: softmax, sigmoid"):
        PACL(activation="relu")
    with pytest.raises(ValueError, match="'words'; known: captions, tokens"):
        SPARC(mean="words")
    with pytest.raises(ValueError, match="factor must be positive, got 0"):
        PACL(factor=0)
