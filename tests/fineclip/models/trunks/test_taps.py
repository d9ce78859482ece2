"""Feature maps from inside the towers, as detectors read them."""

import pytest
import torch

from fineclip.models import DenseCLIP

TRANSFORMERS = ["ViT-Ti-16", "EVA02-Ti-16", "Sigmoid-Ti-16"]


@pytest.fixture(scope="module")
def clips():
    torch.manual_seed(0)
    return {name: DenseCLIP.create(name).eval() for name in (*TRANSFORMERS, "RN-Ti")}


def outputs_of(modules, run):
    """What each module returned, in order of the calls."""
    outputs = []
    hooks = [m.register_forward_hook(lambda *args: outputs.append(args[-1])) for m in modules]
    result = run()
    for hook in hooks:
        hook.remove()
    return result, outputs


@pytest.mark.parametrize("name", TRANSFORMERS)
@torch.no_grad()
def test_taps_are_block_outputs_and_the_last_is_without_attention(clips, name):
    trunk = clips[name].trunk
    images = torch.rand(1, 3, 64, 48)
    state, outputs = outputs_of(trunk.stages, lambda: trunk.forward_shared(images))
    last = trunk.run_block_without_attention(trunk.stages[-1], state.tokens)
    tapped, dense = trunk.forward_taps(images, (2, 0, 1))
    assert dense is None
    for index, (found, tokens) in enumerate(zip(tapped, (last, *outputs), strict=True)):
        expected = tokens[:, trunk.num_prefix_tokens :].transpose(1, 2).reshape(1, -1, 4, 3)
        assert found.shape == (1, trunk.tap_channels(index), 4, 3)
        assert torch.equal(found, expected)
    assert trunk.tap_stride(0) == (16, 16)


@torch.no_grad()
def test_taps_of_a_resnet_are_its_stages(clips):
    trunk = clips["RN-Ti"].trunk
    images = torch.rand(1, 3, 64, 96)
    found, outputs = outputs_of(trunk.stages, lambda: trunk.forward_taps(images, (0, 1, 2, 3)))
    for index, (tap, expected) in enumerate(zip(found.maps, outputs, strict=True)):
        stride, same = trunk.tap_stride(index)
        assert stride == same == 4 * 2**index
        assert tap.shape == (1, trunk.tap_channels(index), 64 // stride, 96 // stride)
        assert torch.equal(tap, expected)


@pytest.mark.parametrize("name", [*TRANSFORMERS, "RN-Ti"])
@torch.no_grad()
def test_the_dense_map_comes_from_the_same_pass(clips, name):
    clip = clips[name]
    images = torch.rand(2, 3, 64, 96)
    (maps, dense), calls = outputs_of(
        clip.trunk.stages[:1], lambda: clip.trunk.forward_taps(images, (0, 0), dense=True)
    )
    assert len(calls) == 1
    assert torch.equal(maps[0], maps[1])
    torch.testing.assert_close(dense, clip.encode_dense(images, normalize=False))


@pytest.mark.parametrize("name", [*TRANSFORMERS, "RN-Ti"])
@torch.no_grad()
def test_nothing_runs_after_the_last_tap(clips, name):
    trunk = clips[name].trunk
    images = torch.rand(1, 3, 64, 64)
    _, calls = outputs_of(trunk.stages[1:], lambda: trunk.forward_taps(images, (0,)))
    assert not calls


@pytest.mark.parametrize("name", [*TRANSFORMERS, "RN-Ti"])
def test_parameters_without_gradient_are_named(clips, name):
    trunk = clips[name].trunk
    last = len(trunk.stages) - 1
    maps, dense = trunk.forward_taps(torch.rand(1, 3, 64, 64), (last,), dense=True)
    parameters = [p for stage in trunk.stages for p in stage.parameters()]
    gradients = torch.autograd.grad(
        maps[0].square().sum() + dense.square().sum(), parameters, allow_unused=True
    )
    without = {id(p) for p, g in zip(parameters, gradients, strict=True) if g is None}
    assert without == {id(p) for p in trunk.parameters_unused_by_dense()}


def test_taps_that_cannot_be(clips):
    trunk = clips["ViT-Ti-16"].trunk
    images = torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match=r"taps \[3, -1\] out of range: this tower has 3 blocks"):
        trunk.forward_taps(images, (0, 3, -1))
    with pytest.raises(ValueError, match="neither taps nor the dense map"):
        trunk.forward_taps(images, ())
    with pytest.raises(ValueError, match="multiples of the patch"):
        trunk.forward_taps(torch.rand(1, 3, 60, 64), (0,))


WITH_CLASS_TOKEN = ["ViT-Ti-16", "EVA02-Ti-16"]


@pytest.mark.parametrize("name", WITH_CLASS_TOKEN)
@torch.no_grad()
def test_class_token_residual(clips, name):
    trunk = clips[name].trunk
    images = torch.rand(2, 3, 48, 80)
    state = trunk.forward_shared(images)
    block, tokens = trunk.blocks[-1], state.tokens
    mixed = tokens[:, :1] + trunk.attend_alone(block, tokens)
    norm = block.ln_2 if hasattr(block, "ln_2") else block.norm2
    out = mixed + block.mlp(norm(mixed))
    wanted = trunk.project_patches(out).transpose(1, 2).unflatten(2, state.grid)
    found = trunk.forward_taps(images, (0,), dense=True, residual="class_token")
    torch.testing.assert_close(found.dense, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", WITH_CLASS_TOKEN)
@torch.no_grad()
def test_deep_prompts_follow_the_class_token(clips, name):
    """A prompt that repeats a token without position changes attention as that token would."""
    trunk = clips[name].trunk
    images = torch.rand(2, 3, 48, 80)
    prompts = torch.randn(1, 2, trunk.width)
    found = trunk.forward_taps(images, (0,), dense=True, prompts=prompts)
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
    torch.testing.assert_close(found.maps[0], wanted, atol=1e-5, rtol=0)
    assert found.dense.shape == (2, 64, 3, 5)  # fewer prompts than blocks


@pytest.mark.parametrize("name", WITH_CLASS_TOKEN)
def test_checkpointing_changes_neither_maps_nor_gradients(name):
    clip = DenseCLIP.create(name)
    images = torch.rand(2, 3, 48, 80)
    prompts = torch.randn(2, 2, clip.trunk.width, requires_grad=True)
    gradients = []
    for checkpointing in (False, True):
        clip.clip.visual.set_grad_checkpointing(checkpointing)
        clip.zero_grad(set_to_none=True)
        maps, dense = clip.trunk.forward_taps(
            images, (1,), dense=True, residual="class_token", prompts=prompts
        )
        (dense.sum() + maps[0].square().sum()).backward()
        gradients.append(
            [p.grad.clone() for p in clip.clip.visual.parameters() if p.grad is not None]
        )
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


def test_residuals_and_prompts_that_cannot_be(clips):
    images = torch.rand(1, 3, 64, 64)
    trunk = clips["ViT-Ti-16"].trunk
    with pytest.raises(ValueError, match="prompts for 4 blocks, this tower has 3"):
        trunk.forward_taps(images, (0,), prompts=torch.zeros(4, 1, 96))
    with pytest.raises(ValueError, match="unknown residual 'none'; known: own, class_token"):
        trunk.forward_taps(images, (0,), residual="none")
    with pytest.raises(ValueError, match="no class token"):
        clips["Sigmoid-Ti-16"].trunk.forward_taps(images, (0,), residual="class_token")
