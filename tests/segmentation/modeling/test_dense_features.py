"""Dense maps, taps and deep prompts of any transformer tower."""

import copy

import pytest
import torch

from fineclip.models import DenseCLIP
from fineclip.models.trunks import build_trunk
from segmentation.modeling import default_taps, extract_features, split_attention_weights

TOWERS = ["ViT-Ti-16", "EVA02-Ti-16"]


@pytest.fixture(params=TOWERS)
def clip(request):
    torch.manual_seed(1)
    return DenseCLIP.create(request.param).eval()


@pytest.fixture
def images():
    return torch.randn(2, 3, 48, 80, generator=torch.Generator().manual_seed(0))


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


def test_own_residual_is_the_project_s_dense_map(clip, images):
    wanted = clip.trunk.forward_taps(images, (2, 0), dense=True)
    split_attention_weights(clip.clip)
    found = extract_features(build_trunk(clip.clip.visual), images, taps=(2, 0), residual="own")
    torch.testing.assert_close(found.dense, wanted.dense, atol=1e-5, rtol=0)
    for one, two in zip(found.taps, wanted.maps, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


def test_class_token_residual(clip, images):
    trunk = clip.trunk
    state = trunk.forward_shared(images)
    block, tokens = trunk.blocks[-1], state.tokens
    # What attention adds, from a path that keeps each token's own residual.
    added = trunk.attend_alone(block, tokens)
    mixed = tokens[:, :1] + added
    if hasattr(block, "ln_2"):
        out = mixed + block.mlp(block.ln_2(mixed))
    else:
        out = mixed + block.mlp(block.norm2(mixed))
    wanted = trunk.project_patches(out).transpose(1, 2).unflatten(2, state.grid)
    found = extract_features(trunk, images, taps=(0,))
    torch.testing.assert_close(found.dense, wanted, atol=1e-5, rtol=0)


def test_deep_prompts_stand_behind_the_class_token(clip, images):
    """A prompt that repeats a token without position changes attention as that token would."""
    trunk = clip.trunk
    prompts = torch.randn(1, 2, trunk.width)
    found = extract_features(trunk, images, taps=(0,), prompts=prompts)
    state = trunk.embed(images)
    block = trunk.blocks[0]
    tokens = torch.cat(
        [state.tokens[:, :1], prompts[0].expand(2, -1, -1), state.tokens[:, 1:]], dim=1
    )
    if state.rope is None:
        out = block(tokens)[:, 3:]
    else:  # told that there are three prefix tokens, the block leaves all three unrotated
        block.attn.num_prefix_tokens = 3
        out = block(tokens, rope=state.rope)[:, 3:]
        block.attn.num_prefix_tokens = 1
    wanted = out.transpose(1, 2).unflatten(2, state.grid)
    torch.testing.assert_close(found.taps[0], wanted, atol=1e-5, rtol=0)
    assert found.dense.shape == (2, 64, 3, 5)  # fewer prompts than blocks


def test_checkpointing_changes_neither_maps_nor_gradients(clip, images):
    gradients = []
    prompts = torch.randn(2, 2, clip.trunk.width, requires_grad=True)
    for checkpointing in (False, True):
        clip.clip.visual.set_grad_checkpointing(checkpointing)
        clip.zero_grad(set_to_none=True)
        found = extract_features(clip.trunk, images, taps=(1,), prompts=prompts)
        (found.dense.sum() + found.taps[0].square().sum()).backward()
        gradients.append(
            [p.grad.clone() for p in clip.clip.visual.parameters() if p.grad is not None]
        )
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


def test_default_taps():
    assert default_taps(12) == (3, 7)
    assert default_taps(24) == (7, 15)
    assert default_taps(3) == (0, 1)


def test_what_a_tower_cannot_give(images):
    trunk = DenseCLIP.create("ViT-Ti-16").trunk
    with pytest.raises(ValueError, match="blocks 0 to 2"):
        extract_features(trunk, images, taps=(3,))
    with pytest.raises(ValueError, match="prompts for 4 blocks"):
        extract_features(trunk, images, taps=(0,), prompts=torch.zeros(4, 1, 96))
    siglip = DenseCLIP.create("Sigmoid-Ti-16").trunk
    with pytest.raises(ValueError, match="no class token"):
        extract_features(siglip, images, taps=(0,))
    assert extract_features(siglip, images, taps=(0,), residual="own").dense.shape == (2, 96, 3, 5)
