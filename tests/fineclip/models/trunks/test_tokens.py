"""Patch and token embeddings: equal to the global path and to the towers' own where they must."""

import open_clip
import pytest
import torch
import torch.nn.functional as F

from fineclip.models import DenseCLIP
from fineclip.models.text_tower import text_mask

PATCH = {"ViT-Ti-16": 16, "EVA02-Ti-16": 16, "Sigmoid-Ti-16": 16, "RN-Ti": 32}


def make(name):
    model = DenseCLIP.create(name).eval()
    for parameter in model.clip.visual.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.02)
    return model


@torch.no_grad()
@pytest.mark.parametrize("name", PATCH)
def test_all_image_outputs_come_from_one_pass(name, monkeypatch):
    model = make(name)
    images = torch.randn(2, 3, 2 * PATCH[name], 3 * PATCH[name])
    alone = {
        "image": model.encode_image(images),
        "dense": model.encode_dense(images),
        "patches": model.encode_patches(images),
    }
    passes = []
    forward_shared = model.trunk.forward_shared
    monkeypatch.setattr(
        model.trunk, "forward_shared", lambda x: passes.append(len(x)) or forward_shared(x)
    )
    together = model.encode_visual(images, {"image", "dense", "patches"})
    assert passes == [2]
    for key, value in alone.items():
        torch.testing.assert_close(together[key], value, atol=1e-6, rtol=0)
    assert together["patches"].shape == (2, 6, model.embed_dim)
    torch.testing.assert_close(together["patches"].norm(dim=2), torch.ones(2, 6))
    # Patches attend each other in the last attention, locations of the dense map do not.
    assert not torch.allclose(alone["patches"], alone["dense"].flatten(2).mT, atol=1e-3)
    assert model.encode_visual(images, set()) == {}
    with pytest.raises(ValueError, match="unknown outputs"):
        model.encode_visual(images, {"masks"})


@torch.no_grad()
def test_patches_of_open_clips_vit():
    model = make("ViT-Ti-16")
    images = torch.randn(2, 3, 64, 64)
    visual = model.clip.visual
    visual.output_tokens = True
    _, tokens = visual(images)
    expected = tokens @ visual.proj
    torch.testing.assert_close(
        model.encode_patches(images, normalize=False), expected, atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_patches_of_eva():
    model = make("EVA02-Ti-16")
    images = torch.randn(2, 3, 64, 64)
    trunk = model.clip.visual.trunk
    expected = trunk.head(trunk.fc_norm(trunk.forward_features(images)[:, 1:]))
    torch.testing.assert_close(
        model.encode_patches(images, normalize=False), expected, atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_patches_of_siglip_are_pooled_one_by_one():
    model = make("Sigmoid-Ti-16")
    images = torch.randn(2, 3, 64, 64)
    trunk = model.clip.visual.trunk
    tokens = trunk.forward_features(images)
    expected = torch.stack([trunk.attn_pool(tokens[:, i : i + 1]) for i in range(16)], dim=1)
    torch.testing.assert_close(
        model.encode_patches(images, normalize=False), expected, atol=1e-5, rtol=0
    )


@torch.no_grad()
def test_patches_of_a_resnet_ask_the_attention_pool():
    """By hand: location 0 as the query, head by head."""
    model = make("RN-Ti")
    images = torch.randn(1, 3, 64, 64)
    pool = model.clip.visual.attnpool
    features = model.trunk.forward_shared(images)[0].flatten(1).T  # (4, C)
    tokens = torch.cat([features.mean(dim=0, keepdim=True), features]) + pool.positional_embedding
    query, key, value = pool.q_proj(tokens[1]), pool.k_proj(tokens), pool.v_proj(tokens)
    width = len(query) // pool.num_heads
    mixed = []
    for head in range(pool.num_heads):
        part = slice(head * width, (head + 1) * width)
        weights = (key[:, part] @ query[part] / width**0.5).softmax(dim=0)
        mixed.append(weights @ value[:, part])
    expected = pool.c_proj(torch.cat(mixed))
    found = model.encode_patches(images, normalize=False)[0, 0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", PATCH)
def test_token_at_the_end_is_the_text_embedding(name):
    model = make(name)
    tokens = open_clip.SimpleTokenizer(context_length=model.context_length)(
        ["a dog", "two small cats on a mat", ""]
    )
    text, of_token, mask = model.encode_text_and_tokens(tokens)
    torch.testing.assert_close(text, model.encode_text(tokens), atol=0, rtol=0)
    columns = torch.arange(tokens.shape[1]) < (
        mask.sum(dim=1).max() if model.text_tower.trims else 77
    )
    torch.testing.assert_close(of_token.norm(dim=2), columns.float().expand(mask.shape))
    if name == "Sigmoid-Ti-16":  # pools at the last position, wherever the text ends
        end = torch.full((3,), tokens.shape[1] - 1)
    else:
        assert mask.sum(dim=1).tolist() == [4, 8, 2]
        end = mask.sum(dim=1) - 1
    torch.testing.assert_close(of_token[torch.arange(3), end], text, atol=1e-6, rtol=0)
    found, found_mask = model.encode_text_tokens(tokens, normalize=False)
    torch.testing.assert_close(F.normalize(found, dim=2), of_token)
    assert torch.equal(found_mask, mask)


def test_mask_ends_where_the_text_ends():
    largest = torch.tensor([[7, 2, 9, 0], [7, 9, 0, 0], [7, 2, 3, 9]])
    expected = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]).bool()
    assert torch.equal(text_mask(largest, "argmax"), expected)
    marked = torch.tensor([[7, 2, 8, 2]])
    assert text_mask(marked, "eos", 2).tolist() == [[True, True, False, False]]
    # SigLIP pads with its end-of-text token 1, the first of which counts.
    siglip = torch.tensor([[5, 6, 1, 1], [5, 1, 6, 1], [1, 1, 1, 1], [5, 6, 7, 8]])
    expected = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1]]).bool()
    assert torch.equal(text_mask(siglip, "last"), expected)


def test_gradient_reaches_the_text_tower_and_no_hook_is_left():
    model = DenseCLIP.create("ViT-Ti-16")
    tokens = torch.randint(1, 500, (2, 77))
    _, of_token, _ = model.encode_text_and_tokens(tokens)
    of_token[:, 0, 0].sum().backward()
    assert model.clip.text_projection.grad.any()
    assert not model.clip.ln_final._forward_hooks
    none = model.encode_text_tokens(tokens[:0])
    assert none[0].shape == (0, 77, model.embed_dim)
    assert none[1].shape == (0, 77)


def test_other_text_towers_are_refused():
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 1, "layers": 1}
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    model = DenseCLIP(open_clip.CustomTextCLIP(16, vision, {**text, "embed_cls": True}))
    with pytest.raises(ValueError, match="not for this TextTransformer; objectives that compare"):
        model.encode_text_tokens(torch.zeros(1, 8, dtype=torch.int64))
