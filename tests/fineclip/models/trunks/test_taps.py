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
def test_nothing_runs_behind_the_last_tap(clips, name):
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
