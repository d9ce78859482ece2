"""The frozen tower and its pyramid: recorded outputs, every kind of tower, what trains."""

import copy

import pytest
import torch
from fvit_reference import TINY, TINY_TAPS, backbone_config, behind, tensors
from mmdet.registry import MODELS
from mmengine.optim import build_optim_wrapper
from recorded import assert_recorded

from detection.models import FViTBackbone
from fineclip.checkpoints import CheckpointError
from fineclip.checkpoints.conversion import convert_source
from fineclip.checkpoints.source import source_from
from fineclip.models import DenseCLIP

TOWERS = {
    "ViT-Ti-16": (0, 1, 1, 2),
    TINY: TINY_TAPS,
    "Sigmoid-Ti-16": (0, 1, 1, 2),
    "RN-Ti": (0, 1, 2, 3),
}


@pytest.fixture(scope="module")
def weights():
    stored = tensors("backbone")
    release = {f"backbone.{k}": v for k, v in behind(stored, "param.", "buffer.").items()}
    visual = {k: v for k, v in release.items() if ".visual." in k}
    converted = convert_source(source_from(visual, "released F-ViT"), to="fvit").tensors
    pyramid = {k: v for k, v in release.items() if ".visual." not in k}
    return behind(converted | pyramid, "backbone.")


@pytest.fixture
def recorded(weights):
    backbone = MODELS.build(backbone_config())
    backbone.load_state_dict(weights)  # strict: exactly the converted names
    return backbone


@pytest.fixture(scope="module")
def clips():
    torch.manual_seed(0)
    return {name: DenseCLIP.create(name) for name in TOWERS}


def make(clips, name, **changes):
    return FViTBackbone(copy.deepcopy(clips[name]), TOWERS[name], **changes)


@pytest.mark.parametrize("run", ["native", "large", "rect"])
def test_eval_outputs_are_the_recorded_ones(recorded, run):
    stored = behind(tensors("backbone"), f"{run}.")
    recorded.eval()
    with torch.no_grad():
        levels, dense = recorded.forward_with_dense(stored["input.image"])
    for index, level in enumerate(levels):
        assert_recorded(level, stored[f"output.eval.level{index}"], 3e-4)
    assert_recorded(dense, stored["output.eval.dense"], 2e-5)


@pytest.mark.parametrize("run", ["native", "large", "rect"])
def test_train_outputs_and_statistics_are_the_recorded_ones(recorded, run):
    stored = behind(tensors("backbone"), f"{run}.")
    recorded.train()
    levels = recorded(stored["input.image"])
    for index, level in enumerate(levels):
        if f"output.train.level{index}" in stored:
            assert_recorded(level, stored[f"output.train.level{index}"], 3e-4)
    state = recorded.state_dict()
    for key, expected in behind(stored, "output.train.updated.").items():
        torch.testing.assert_close(state[key], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TOWERS)
def test_levels_and_dense_map_of_every_tower(clips, name):
    backbone = make(clips, name).eval()
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        levels, dense = backbone.forward_with_dense(images)
        expected = clips[name].eval().encode_dense(images)
    for level, channels, stride in zip(
        levels, backbone.out_channels, backbone.strides, strict=True
    ):
        assert level.shape == (2, channels, 64 / stride, 96 / stride)
        # mmcv's RoIAlign reads anything else wrongly
        assert level.is_contiguous()
    torch.testing.assert_close(dense, expected, atol=1e-5, rtol=0)
    alone = backbone(images)
    assert all(torch.equal(a, b) for a, b in zip(alone, levels, strict=True))


def test_a_resnet_is_its_own_pyramid(clips):
    backbone = make(clips, "RN-Ti")
    assert backbone.strides == (4, 8, 16, 32)
    assert backbone.out_channels == (64, 128, 256, 512)
    assert all(key.startswith("visual.") for key in backbone.state_dict())


def test_strides_of_a_patch_that_four_does_not_divide(monkeypatch, clips):
    backbone = make(clips, TINY)
    monkeypatch.setattr(backbone, "_tap_strides", [14] * 4)
    assert backbone.strides == (3.5, 7, 14, 28)


@pytest.mark.parametrize("name", TOWERS)
def test_frozen_from_construction_on(clips, name):
    clip = copy.deepcopy(clips[name]).train()
    backbone = FViTBackbone(clip, TOWERS[name])
    assert not any(p.requires_grad for p in backbone.visual.parameters())
    assert not any(module.training for module in backbone.visual.modules())
    before = copy.deepcopy(backbone.visual.state_dict())
    backbone.train()
    assert not any(module.training for module in backbone.visual.modules())
    levels = backbone(torch.rand(2, 3, 64, 64))
    assert not levels[2].requires_grad
    assert levels[0].requires_grad == (name != "RN-Ti")
    backbone.init_weights()
    after = backbone.visual.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_optimizer_gets_the_pyramid_alone(clips):
    backbone = make(clips, TINY)
    wrapper = build_optim_wrapper(backbone, {"optimizer": {"type": "SGD", "lr": 0.1}})
    trained = {id(p) for g in wrapper.param_groups for p in g["params"] if p.requires_grad}
    pyramid = [p for k, p in backbone.named_parameters() if k.startswith("interpolate")]
    assert trained == {id(p) for p in pyramid}


@pytest.mark.parametrize("name", TOWERS)
def test_unfrozen_blocks_and_nothing_else_get_a_gradient(clips, name):
    backbone = make(clips, name, unfreeze_blocks=2).train()
    sum(level.square().mean() for level in backbone(torch.rand(2, 3, 64, 64))).backward()
    visual = dict(backbone.visual.named_parameters())
    with_gradient = {key for key, p in visual.items() if p.grad is not None}
    # so that DistributedDataParallel waits for none that never comes
    assert with_gradient == {key for key, p in visual.items() if p.requires_grad}
    stages = clips[name].trunk.stages
    inside = {id(p) for s in list(backbone.trunk.stages)[-2:] for p in s.parameters()}
    assert with_gradient
    assert {id(visual[key]) for key in with_gradient} <= inside
    assert len(stages) >= 3
    assert not any(module.training for module in backbone.visual.modules())


def test_weights_come_from_any_checkpoint(tmp_path, weights, clips):
    detector = tmp_path / "detector.pth"
    release = {f"backbone.{key}": value for key, value in weights.items() if "visual" in key}
    torch.save({"state_dict": release}, detector)
    backbone = MODELS.build(backbone_config(pretrained=str(detector)))
    clip = tmp_path / "clip.pt"
    torch.save(clips["ViT-Ti-16"].clip.state_dict(), clip)
    vit = FViTBackbone("ViT-Ti-16", TOWERS["ViT-Ti-16"], pretrained=str(clip))
    for made, expected in (
        (backbone, behind(release, "backbone.visual.")),
        (vit, clips["ViT-Ti-16"].clip.visual.state_dict()),
    ):
        loaded = made.visual.state_dict()
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[key], expected[key]) for key in loaded)


def test_weights_are_read_once(monkeypatch, tmp_path, clips):
    path = tmp_path / "clip.pt"
    torch.save(clips["ViT-Ti-16"].clip.state_dict(), path)
    reads = []
    real = torch.load

    def counted(*args, **kwargs):
        reads.append(args)
        return real(*args, **{**kwargs, "weights_only": True})

    backbone = FViTBackbone("ViT-Ti-16", TOWERS["ViT-Ti-16"], pretrained=str(path))
    monkeypatch.setattr(torch, "load", counted)
    path.unlink()
    backbone.init_weights()
    assert not reads


def test_a_deep_copy_runs_its_own_tower(clips):
    backbone = make(clips, TINY).eval()
    twin = copy.deepcopy(backbone)
    torch.nn.init.zeros_(backbone.visual.trunk.patch_embed.proj.weight)
    images = torch.rand(1, 3, 64, 64)
    assert not torch.equal(backbone(images)[2], twin(images)[2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"out_indices": (0, 1, 2)}, "4 ascending indices"),
        ({"out_indices": (0, 2, 1, 2)}, "4 ascending indices"),
        ({"out_indices": (0, 1, 2, 3)}, "has 3 blocks"),
        ({"unfreeze_blocks": 4}, "unfreeze_blocks is 4"),
        ({"pretrained": "laion2b"}, "handed over"),
    ],
)
def test_settings_that_do_not_fit(clips, changes, message):
    settings = {"out_indices": TINY_TAPS, **changes}
    with pytest.raises(ValueError, match=message):
        FViTBackbone(clips[TINY], **settings)


def test_a_checkpoint_of_another_tower(tmp_path, clips):
    path = tmp_path / "clip.pt"
    torch.save(clips["ViT-Ti-16"].clip.state_dict(), path)
    with pytest.raises(CheckpointError, match="does not fit the model"):
        FViTBackbone(TINY, TINY_TAPS, pretrained=str(path))


def test_sides_that_are_no_multiple_of_the_patch(clips):
    with pytest.raises(ValueError, match="multiples of the patch"):
        make(clips, TINY)(torch.rand(1, 3, 60, 64))


@pytest.mark.parametrize("first", [1, 2, 3])
def test_finer_levels_can_be_left_out(clips, first):
    whole = make(clips, TINY)
    part = FViTBackbone(copy.deepcopy(clips[TINY]), TINY_TAPS[first:], first_level=first)
    missing, left = part.load_state_dict(whole.state_dict(), strict=False)
    assert not missing
    assert left and all(key.startswith("interpolate") for key in left if first > 1)
    assert part.strides == whole.strides[first:]
    images = torch.randn(1, 3, 32, 48)
    whole.eval(), part.eval()
    with torch.no_grad():
        levels, expected = part(images), whole(images)[first:]
    assert len(levels) == 4 - first
    assert all(torch.equal(a, b) for a, b in zip(levels, expected, strict=True))
