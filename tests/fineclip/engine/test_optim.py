import math

import pytest
import torch
from torch import nn

from fineclip.engine import AutocastOptimWrapper, CLIPOptimWrapperConstructor, WarmupCosineLR
from fineclip.engine.optim import FusedOptimWrapperConstructor, fused_options
from fineclip.models import DenseCLIP
from fineclip.objectives import GlobalContrastive
from fineclip.pretraining import FineCLIPPretrainer


def names_of(model, group):
    ids = {id(p) for p in group["params"]}
    return {name for name, p in model.named_parameters() if id(p) in ids}


@pytest.mark.parametrize("model_name", ["ViT-Ti-16", "EVA02-Ti-16"])
def test_norms_biases_and_scale_do_not_decay(model_name):
    model = FineCLIPPretrainer(DenseCLIP.create(model_name), [GlobalContrastive()])
    wrapper = CLIPOptimWrapperConstructor(
        {"optimizer": {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.1}}
    )(model)
    decay, plain = wrapper.optimizer.param_groups
    assert (decay["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert names_of(model, decay) | names_of(model, plain) == trained
    assert all(p.ndim >= 2 for p in decay["params"])
    assert "clip.clip.logit_scale" in names_of(model, plain)
    assert not any(name.endswith("bias") for name in names_of(model, decay))
    # The text tower is frozen by default, the whole image tower trains.
    towers = {name.split(".")[2] for name in trained}
    assert towers == {"visual", "logit_scale"}


def test_nothing_to_train_is_an_error():
    frozen = nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter is trainable"):
        CLIPOptimWrapperConstructor({"optimizer": {"type": "SGD", "lr": 1.0}})(frozen)


@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_warmup_then_cosine(warmup):
    """Against the schedule written out: lr (s + 1) / warmup, then half a cosine to zero."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    scheduler = WarmupCosineLR.build_iter_from_epoch(
        optimizer, warmup_iters=warmup, end=2, epoch_length=6
    )
    seen = []
    for _ in range(12):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    expected = [2.0 * (s + 1) / warmup for s in range(warmup)]
    rest = 12 - warmup
    expected += [1 + math.cos(math.pi * s / rest) for s in range(rest)]
    assert seen == pytest.approx(expected)


def test_bfloat16_on_cpu():
    model = nn.Linear(4, 4)
    wrapper = AutocastOptimWrapper(
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1), dtype="bfloat16"
    )
    with wrapper.optim_context(model):
        assert model(torch.ones(1, 4)).dtype == torch.bfloat16
    assert model(torch.ones(1, 4)).dtype == torch.float32
    with pytest.raises(ValueError, match="must be 'bfloat16'"):
        AutocastOptimWrapper(optimizer=wrapper.optimizer, dtype="float16")


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_fused_steps_are_plain_steps(kind):
    """In float64, where the kernel's other order of rounding is all that may differ."""
    start = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = [nn.Parameter(start.clone()), nn.Parameter(start.clone())]
    options = fused_options(kind, weights)
    assert options == {"fused": True}
    for weight, how in zip(weights, ({"fused": False, "foreach": False}, options), strict=True):
        optimizer = kind([weight], lr=0.1, weight_decay=0.1, **how)
        for step in range(5):
            weight.grad = (step + 1) * start.sin()
            optimizer.step()
    assert not torch.equal(weights[0], start)
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-13, atol=1e-13)


def test_nothing_is_fused_where_torch_has_no_such_step():
    weight = nn.Parameter(torch.zeros(2))
    assert fused_options(torch.optim.Rprop, [weight]) == {}
    assert fused_options(torch.optim.AdamW, [weight, nn.Parameter(weight.to("meta"))]) == {}
    assert fused_options(torch.optim.AdamW, []) == {}


@pytest.mark.parametrize("constructor", [CLIPOptimWrapperConstructor, FusedOptimWrapperConstructor])
@pytest.mark.parametrize(
    "said, fused", [({}, True), ({"fused": False}, False), ({"foreach": True}, None)]
)
def test_constructors_fuse_unless_told_otherwise(constructor, said, fused):
    config = {"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 1.0, **said}}
    assert constructor(config)(nn.Linear(2, 2)).optimizer.defaults["fused"] is fused
