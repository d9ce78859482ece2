"""Separate query, key and value weights: the same tower, under other names."""

import copy

import pytest
import torch

from fineclip.models import DenseCLIP
from fineclip.models.trunks import build_trunk
from segmentation.modeling import split_attention_weights


@pytest.fixture(params=["ViT-Ti-16", "EVA02-Ti-16"])
def clip(request):
    torch.manual_seed(1)
    return DenseCLIP.create(request.param).eval()


def test_separate_weights_change_nothing(clip):
    tokens = clip.tokenizer(["a cat", "a large dog"])
    square = torch.randn(2, 3, 64, 64)
    before = clip.encode_text(tokens), clip.clip.encode_image(square)
    other = copy.deepcopy(clip.clip)
    replaced = split_attention_weights(other)
    assert replaced == (5 if hasattr(other.visual, "conv1") else 2)  # EVA's towers are separate
    assert not any("in_proj_weight" in key for key in other.state_dict())
    after = DenseCLIP(other).encode_text(tokens), other.encode_image(square)
    for one, two in zip(before, after, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_maps_stay_and_parameters_without_gradient_are_named(clip):
    images = torch.randn(2, 3, 48, 80)
    wanted = clip.trunk.forward_taps(images, (2, 0), dense=True)
    split_attention_weights(clip.clip)
    trunk = build_trunk(clip.clip.visual)
    found = trunk.forward_taps(images, (2, 0), dense=True)
    for one, two in zip((found.dense, *found.maps), (wanted.dense, *wanted.maps), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=0)
    parameters = list(trunk.blocks.parameters())
    gradients = torch.autograd.grad(found.dense.square().sum(), parameters, allow_unused=True)
    without = {id(p) for p, g in zip(parameters, gradients, strict=True) if g is None}
    assert without == {id(p) for p in trunk.parameters_unused_by_dense()}
    assert without
