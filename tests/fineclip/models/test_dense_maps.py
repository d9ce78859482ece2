"""Dense maps of the training-free papers, against loops over locations in float64."""

import math

import pytest
import torch
import torch.nn.functional as F

from fineclip.models import DenseCLIP
from fineclip.models.dense_maps import (
    DENSE_MAPS,
    GUIDE_SCALE,
    GUIDE_SHIFT,
    NEIGHBOURHOOD,
    guided_weights,
)

TOWERS = ["ViT-Ti-16", "EVA02-Ti-16", "Sigmoid-Ti-16"]
GRID = (2, 3)


@pytest.fixture(scope="module", params=TOWERS)
def model(request):
    torch.manual_seed(1)
    model = DenseCLIP.create(request.param).double().eval()
    with torch.no_grad():  # sharp attention, so that what is compared shows
        for name, parameter in model.clip.visual.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(3)
            elif "bias" in name:
                parameter.normal_(std=0.1)
    return model


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 16 * GRID[0], 16 * GRID[1], dtype=torch.float64)


def last_block(model, images):
    trunk = model.trunk
    state = trunk.forward_shared(images)
    return trunk, trunk.blocks[-1], state


@torch.no_grad()
def test_queries_keys_and_values_are_those_of_the_block(model, images):
    """Mixed as trained, they make the block's own output."""
    trunk, block, state = last_block(model, images)
    query, key, value = trunk.attention_heads(block, state.tokens, state.rope)
    mixed = (query @ key.transpose(2, 3) / math.sqrt(query.shape[3])).softmax(3) @ value
    added = trunk.finish_attention(block, state.tokens, mixed.transpose(1, 2).flatten(2))
    found = trunk.feed_forward(block, state.tokens + added)
    torch.testing.assert_close(found, trunk.run_block(block, state.tokens, state.rope))


def by_hand(trunk, block, state, name, guide):
    """The dense map of the first image, one head and one token at a time."""
    heads = trunk.attention_heads(block, state.tokens[:1], state.rope)
    _, num_heads, length, width = heads.value.shape
    prefix = length - GRID[0] * GRID[1]
    mixed = torch.zeros(1, length, num_heads * width, dtype=torch.float64)
    for head in range(num_heads):
        q, k, v = (part[0, head] for part in heads)
        for i in range(length):
            weights = torch.zeros(length, dtype=torch.float64)
            if name.startswith("value"):
                weights[i] = 1
            if name in ("qq", "sclip", "clearclip"):
                exps = [math.exp(float(q[i] @ q[j]) / math.sqrt(width)) for j in range(length)]
                weights += torch.tensor(exps, dtype=torch.float64) / sum(exps)
            if name in ("kk", "sclip", "kk-only", "naclip"):
                exps = []
                for j in range(length):
                    near = 0.0
                    if name == "naclip" and min(i, j) >= prefix:
                        rows, columns = (
                            [divmod(t - prefix, GRID[1])[axis] for t in (i, j)] for axis in (0, 1)
                        )
                        squared = (rows[0] - rows[1]) ** 2 + (columns[0] - columns[1]) ** 2
                        near = math.exp(-squared / (2 * NEIGHBOURHOOD**2))
                    exps.append(math.exp(float(k[i] @ k[j]) / math.sqrt(width) + near))
                weights += torch.tensor(exps, dtype=torch.float64) / sum(exps)
            if name == "proxyclip":
                if i < prefix:
                    weights[i] = 1
                else:
                    weights[prefix:] = proxy_row(guide[0].flatten(1).T, i - prefix)
            mixed[0, i, head * width : (head + 1) * width] = weights @ v
    tokens = trunk.finish_attention(block, state.tokens[:1], mixed)
    if name not in ("value-only", "clearclip", "kk-only", "naclip", "proxyclip"):
        tokens = trunk.feed_forward(block, state.tokens[:1] + tokens)
    return trunk.project_patches(tokens)[0].T.unflatten(1, GRID)


def proxy_row(features, i):
    count = len(features)
    cosines = torch.tensor(
        [[float(F.cosine_similarity(a, b, dim=0)) for b in features] for a in features],
        dtype=torch.float64,
    )
    shifted = GUIDE_SCALE * (cosines[i] - GUIDE_SHIFT * cosines.mean())
    exps = [math.exp(x) if x >= 0 or j == i else 0.0 for j, x in enumerate(shifted.tolist())]
    return torch.tensor([exps[j] / sum(exps) for j in range(count)], dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize("name", DENSE_MAPS)
def test_equals_the_formula(model, images, name):
    guide = torch.randn(2, 5, *GRID, dtype=torch.float64)
    expected = by_hand(*last_block(model, images), name, guide)
    found = model.encode_dense(images, normalize=False, dense_map=name, guide=guide)
    assert found.shape == (2, model.embed_dim, *GRID)
    # Weights by a guide are computed in float32.
    tolerance = 1e-5 if name in ("proxyclip", "naclip") else 1e-9
    torch.testing.assert_close(found[0], expected, atol=tolerance, rtol=tolerance)


@torch.no_grad()
def test_ways_differ(model, images):
    guide = torch.randn(2, 5, *GRID)
    maps = [model.encode_dense(images, dense_map=name, guide=guide) for name in DENSE_MAPS]
    for i, one in enumerate(maps):
        assert all((one - other).abs().max() > 1e-3 for other in maps[:i])


def test_guide_of_equal_features_leaves_every_location_to_itself():
    torch.testing.assert_close(guided_weights(torch.ones(1, 4, 1, 1), (2, 2))[0], torch.eye(4))


def test_unknown_missing_and_impossible():
    model = DenseCLIP.create("ViT-Ti-16")
    images = torch.randn(1, 3, 32, 32)
    with pytest.raises(ValueError, match="unknown dense map 'maskclip'; known: value"):
        model.encode_dense(images, dense_map="maskclip")
    with pytest.raises(ValueError, match="guided by a second model"):
        model.encode_dense(images, dense_map="proxyclip")
    with pytest.raises(ValueError, match="ResNets have the dense map 'value' alone"):
        DenseCLIP.create("RN-Ti").encode_dense(images, dense_map="qq")
