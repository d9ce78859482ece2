"""GLoRIA, MGCA, RegionCLIP's own losses and SILC's view contrast against loops in float64."""

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
    softplus,
    symmetric,
    unit,
)

from fineclip.embeddings import Embeddings
from fineclip.objectives import (
    MGCA,
    GLoRIA,
    RegionConceptMatching,
    SigmoidViewContrastive,
    ViewContrastive,
)
from fineclip.objectives.mgca import sinkhorn_assignment

MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 1, 1], [0, 1, 0, 0]], dtype=torch.bool)
GLOBAL_AND_LOCAL = {"image", "text", "patches", "text_tokens", "logit_scale"}


def make(images=3):
    return Embeddings(
        image=draw(images, 6, seed=0),
        text=draw(images, 6, seed=1),
        patches=draw(images, 5, 6, seed=2),
        text_tokens=draw(images, 4, 6, seed=3),
        text_mask=MASK[:images],
        global_view=draw(2, images, 6, seed=4),
        logit_scale=scalar(LOG_TEN),
        logit_bias=scalar(-2.0),
    )


def make_regions(regions=5):
    return Embeddings(
        region=draw(regions, 6, seed=0),
        teacher_crop=draw(regions, 6, seed=1),
        vocabulary=draw(4, 6, seed=2),
        logit_scale=scalar(LOG_TEN),
    )


def unit_rows(rows, mask=None):
    """Rows of length one; those that a mask leaves out are not there."""
    return [unit(row) for k, row in enumerate(rows) if mask is None or mask[k]]


def softmax(values):
    return [value.exp() / sum(v.exp() for v in values) for value in values]


def weighted(weights, rows):
    return sum(weight * row for weight, row in zip(weights, rows, strict=True))


def slow_gloria(attention, words, local, weights=(1.0, 1.0)):
    def slow(e):
        table = []
        for patches in e.patches:
            image, row = unit_rows(patches), []
            for tokens, mask in zip(e.text_tokens, e.text_mask, strict=True):
                total = 0.0
                for token in unit_rows(tokens, mask):
                    heed = softmax([dot(patch, token) / attention for patch in image])
                    total += (cosine(weighted(heed, image), token) / words).exp()
                row.append(words * total.log() / local)
            table.append(row)
        return {
            "loss_gloria_global": weights[0] * info_nce(e.image, e.text, e.logit_scale.exp()),
            "loss_gloria_local": weights[1] * symmetric(table, table),
        }

    return slow


def slow_one_way(queries, keys, temperature):
    """MGCA's token loss of one pair in one direction."""
    attended = [
        weighted(softmax([dot(query, key) / temperature for key in keys]), keys)
        for query in queries
    ]
    total = 0.0
    for k in range(len(queries)):
        total += cross_entropy([cosine(queries[k], o) / temperature for o in attended], k)
        total += cross_entropy([cosine(attended[k], q) / temperature for q in queries], k)
    return total / (2 * len(queries))


def slow_assignment(scores, epsilon, iterations):
    """Sinkhorn's algorithm on lists."""
    q = [[math.exp(s.item() / epsilon) for s in row] for row in scores]
    for _ in range(iterations):
        columns = [sum(row[k] for row in q) for k in range(len(q[0]))]
        q = [[x / c for x, c in zip(row, columns, strict=True)] for row in q]
        q = [[x / sum(row) for x in row] for row in q]
    return q


def slow_mgca(prototypes, *, tau=0.1, tau_p=0.2, epsilon=0.05, iterations=3, weights=(1, 1, 1)):
    def slow(e):
        token = 0.0
        for patches, tokens, mask in zip(e.patches, e.text_tokens, e.text_mask, strict=True):
            image, text = unit_rows(patches), unit_rows(tokens, mask)
            token += slow_one_way(image, text, tau) + slow_one_way(text, image, tau)
        centers = unit_rows(prototypes)
        scores = [
            [[dot(row, p) for p in centers] for row in unit_rows(side)]
            for side in (e.image, e.text)
        ]
        targets = [slow_assignment(s, epsilon, iterations) for s in scores]
        prototype = 0.0
        for found, wanted in zip(scores, reversed(targets), strict=True):
            for row, target in zip(found, wanted, strict=True):
                for k, share in enumerate(target):
                    prototype += share * cross_entropy([s / tau_p for s in row], k)
        pairs = len(e.image)
        return {
            "loss_mgca_instance": weights[0] * info_nce(e.image, e.text, e.logit_scale.exp()),
            "loss_mgca_token": weights[1] * token / pairs,
            "loss_mgca_prototype": weights[2] * prototype / (2 * pairs),
        }

    return slow


def slow_concepts(temperature, min_score):
    def slow(e):
        concepts, kept = unit_rows(e.vocabulary.detach()), []
        for region, crop in zip(unit_rows(e.region), unit_rows(e.teacher_crop), strict=True):
            expected = softmax([dot(crop, k).detach() / temperature for k in concepts])
            if max(expected) > min_score:
                kept.append((region, expected, expected.index(max(expected))))
        distill = contrast = 0.0
        for region, expected, concept in kept:
            found = softmax([dot(region, k) / temperature for k in concepts])
            distill += sum(q * (q.log() - p.log()) for q, p in zip(expected, found, strict=True))
            scores = [((dot(region, concepts[c]) / temperature).exp(), c) for _, _, c in kept]
            matching = sum(s for s, c in scores if c == concept)
            contrast -= (matching / sum(s for s, _ in scores)).log()
        return {
            "loss_concept_distill": distill / len(kept),
            "loss_concept_contrast": contrast / len(kept),
        }

    return slow


def slow_views(e):
    factor = e.logit_scale.exp()
    return {"loss_global": sum(info_nce(v, e.text, factor) for v in e.global_view) / 2}


def slow_sigmoid_views(e):
    total = 0.0
    for view in e.global_view:
        for i, image in enumerate(view):
            for j, text in enumerate(e.text):
                z = e.logit_scale.exp() * cosine(image, text) + e.logit_bias
                total += softplus(-z) if i == j else softplus(z)
    return {"loss_global": total / (2 * len(e.text))}


@pytest.mark.parametrize(
    ("objective", "slow"),
    [
        (GLoRIA(), slow_gloria(1 / 4, 1 / 5, 1 / 50)),
        (
            GLoRIA(
                attention_temperature=0.7,
                word_temperature=0.3,
                local_temperature=0.4,
                global_weight=0.5,
                local_weight=2.0,
            ),
            slow_gloria(0.7, 0.3, 0.4, (0.5, 2.0)),
        ),
    ],
)
def test_gloria_equals_slow_loops(objective, slow):
    assert_equals_slow(objective, make(), slow, gradient=GLOBAL_AND_LOCAL, tolerance=3e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tau": 0.5, "tau_p": 0.3, "epsilon": 0.2, "iterations": 1, "weights": (0.3, 2.0, 1.5)},
    ],
)
def test_mgca_equals_slow_loops(settings):
    names = {"tau": "token_temperature", "tau_p": "prototype_temperature"}
    arguments = {names.get(key, key): value for key, value in settings.items()}
    weights = dict(
        zip(
            ("instance_weight", "token_weight", "prototype_weight"),
            arguments.pop("weights", ()),
            strict=False,
        )
    )
    torch.manual_seed(0)
    objective = MGCA(embed_dim=6, num_prototypes=4, **arguments, **weights)
    exact = objective.prototypes.detach().double().requires_grad_()
    assert_equals_slow(
        objective, make(), slow_mgca(exact, **settings), gradient=GLOBAL_AND_LOCAL, tolerance=3e-5
    )
    error = (objective.prototypes.grad - exact.grad).abs().max() / exact.grad.abs().max()
    assert error < 3e-5


@pytest.mark.parametrize(("temperature", "min_score"), [(0.1, 0.0), (0.3, 0.5)])
def test_concept_matching_equals_slow_loops(temperature, min_score):
    objective = RegionConceptMatching(temperature=temperature, min_score=min_score)
    assert_equals_slow(
        objective,
        make_regions(),
        slow_concepts(temperature, min_score),
        gradient={"region"},
        tolerance=3e-5,
    )


@pytest.mark.parametrize(
    ("objective", "slow", "extra"),
    [
        (ViewContrastive(), slow_views, set()),
        (SigmoidViewContrastive(), slow_sigmoid_views, {"logit_bias"}),
    ],
)
def test_view_contrast_equals_slow_loops(objective, slow, extra):
    gradient = {"global_view", "text", "logit_scale", *extra}
    assert_equals_slow(objective, make(), slow, gradient=gradient)


def test_assignment_uses_prototypes_equally():
    """All rows are nearest to the first prototype, and yet each gets its share."""
    scores = torch.tensor([[1.0, 0.9], [1.0, 0.5], [1.0, 0.2], [1.0, 0.1]])
    assignment = sinkhorn_assignment(scores, epsilon=0.05, iterations=100)
    torch.testing.assert_close(assignment.sum(dim=1), torch.ones(4))
    torch.testing.assert_close(assignment.sum(dim=0), torch.full((2,), 2.0), atol=0.05, rtol=0)
    assert assignment[0].argmax() == 1


@pytest.mark.parametrize(
    ("objective", "embeddings"),
    [
        (GLoRIA(), make(images=0)),
        (MGCA(embed_dim=6, num_prototypes=4), make(images=0)),
        (ViewContrastive(), make(images=0)),
        (SigmoidViewContrastive(), make(images=0)),
        (RegionConceptMatching(), make_regions(0)),
        (RegionConceptMatching(temperature=1.0, min_score=0.99), make_regions()),
    ],
)
def test_nothing_to_learn_from_gives_a_connected_zero(objective, embeddings):
    fields = objective.needs - {"text_mask", "teacher_crop", "vocabulary"}
    inputs = [getattr(embeddings, name).requires_grad_() for name in fields]
    losses = objective(embeddings)
    assert all(loss.item() == 0 for loss in losses.values())
    sum(losses.values()).backward()
    for value in [*inputs, *objective.parameters()]:
        assert value.grad is not None
        assert not value.grad.any()


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: GLoRIA(word_temperature=0), "temperatures must be positive"),
        (lambda: MGCA(embed_dim=6, num_prototypes=0), "num_prototypes and iterations must be"),
        (lambda: RegionConceptMatching(min_score=1), r"min_score in \[0, 1\)"),
        (lambda: RegionConceptMatching(temperature=0), "temperature must be positive"),
    ],
)
def test_settings_out_of_range_are_refused(make_it, message):
    with pytest.raises(ValueError, match=message):
        make_it()


def test_an_empty_vocabulary_is_named():
    embeddings = make_regions()
    embeddings.vocabulary = torch.zeros(0, 6)
    with pytest.raises(ValueError, match="a vocabulary of at least one concept"):
        RegionConceptMatching()(embeddings)
