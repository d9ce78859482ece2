"""CLIP and the aggregation network together."""

import pytest
import torch

from fineclip.models import DenseCLIP
from segmentation.modeling import build_predictor, default_taps

SMALL = {
    "hidden_dim": 32,
    "window_size": 3,
    "decoder_dims": (32, 16),
    "decoder_guidance_proj_dims": (16, 8),
}


def test_default_taps():
    assert default_taps(12) == (3, 7)
    assert default_taps(24) == (7, 15)
    assert default_taps(3) == (0, 1)


def test_features_are_the_trunk_s_with_the_predictor_s_settings():
    torch.manual_seed(0)
    clip = DenseCLIP.create("ViT-Ti-16").eval()
    predictor = build_predictor(
        clip, prompt_depth=2, prompt_length=3, guidance_layers=(1, 0), finetune="full", **SMALL
    )
    images = torch.rand(1, 3, 48, 64)
    found = predictor.features(images)
    wanted = clip.trunk.forward_taps(
        images, (1, 0), dense=True, residual="class_token", prompts=predictor.prompt_tokens
    )
    for one, two in zip((found.dense, *found.maps), (wanted.dense, *wanted.maps), strict=True):
        torch.testing.assert_close(one, two)
    # So that DistributedDataParallel waits for none that never comes.
    found.dense.sum().backward()
    assert all(p.grad is not None for p in predictor.trunk.blocks.parameters() if p.requires_grad)


def test_what_a_tower_cannot_give():
    clip = DenseCLIP.create("ViT-Ti-16")
    with pytest.raises(ValueError, match=r"guidance layers \[3\] out of range: .* 3 blocks"):
        build_predictor(clip, guidance_layers=(0, 3), **SMALL)
    siglip = DenseCLIP.create("Sigmoid-Ti-16")
    with pytest.raises(ValueError, match="no class token"):
        build_predictor(siglip, finetune="frozen", **SMALL)
    assert build_predictor(siglip, residual="own", finetune="frozen", **SMALL).residual == "own"
