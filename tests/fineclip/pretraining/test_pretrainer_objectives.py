"""Every objective trains through the pretrainer."""

import math

import pytest
import torch

from fineclip.checkpoints import load
from fineclip.models import DenseCLIP
from fineclip.objectives import GlobalContrastive, SigmoidGlobalContrastive
from fineclip.pretraining import FineCLIPPretrainer
from fineclip.registry import OBJECTIVES

OPTIONS = {
    "RegionCLIPLoss": {"vocabulary": ["cat", "dog"], "templates": "plain"},
    "RegionConceptMatching": {"vocabulary": ["cat", "dog"], "templates": "plain"},
    "LocalToGlobalDistillation": {
        "prototype_head": {"num_prototypes": 7, "hidden_dim": 8, "bottleneck_dim": 4}
    },
}
ARGUMENTS = {"LocalToGlobalDistillation": {"num_prototypes": 7}}
SIGMOID = {"init_logit_scale": math.log(10), "init_logit_bias": -10}


def make_batch():
    return {
        "images": torch.randn(2, 3, 64, 64),
        "texts": torch.randint(1, 900, (2, 77)),
        "boxes": torch.tensor([[0.1, 0.1, 0.7, 0.6]]).repeat(3, 1),
        "region_image": torch.tensor([0, 1, 1]),
        "crops": torch.randn(3, 3, 64, 64),
        "region_texts": torch.randint(1, 900, (3, 77)),
        "region_labels": torch.tensor([1, -1, 0]),
        "global_views": torch.randn(2, 2, 3, 64, 64),
        "local_views": torch.randn(2, 3, 3, 32, 32),
    }


def make_model(objective, name="ViT-Ti-16", **options):
    clip = {"type": "DenseCLIP", "name": name}
    torch.manual_seed(0)
    if "Sigmoid" in objective:
        clip.update(SIGMOID)
    model = FineCLIPPretrainer(
        clip,
        [{"type": objective, **ARGUMENTS.get(objective, {})}],
        **{**OPTIONS.get(objective, {}), **options},
    )
    return model.train()


@pytest.mark.parametrize("objective", sorted(OBJECTIVES.module_dict))
def test_each_objective_trains_from_configs(objective):
    model = make_model(objective, trainable=("image", "text", "logit_scale"))
    if model.ema_teacher is not None:
        model.start_ema_teacher()
    before = [p.detach().clone() for p in model.clip.clip.visual.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = make_batch()
    names = set()
    for _ in range(2):
        losses = {k: v for k, v in model(**batch, mode="loss").items() if k.startswith("loss_")}
        assert all(torch.isfinite(loss) and loss >= 0 for loss in losses.values())
        assert sum(losses.values()) > 0
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        names |= losses.keys()
    assert names
    after = list(model.clip.clip.visual.parameters())
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert sum(changed) > len(changed) / 2


@pytest.mark.parametrize("name", ["EVA02-Ti-16", "Sigmoid-Ti-16", "RN-Ti"])
@pytest.mark.parametrize(
    "objective",
    ["FILIP", "SPARC", "PACL", "GLoRIA", "MGCA", "ViewContrastive", "LocalToGlobalDistillation"],
)
def test_token_and_view_objectives_train_other_trunks(name, objective):
    model = make_model(objective, name)
    if model.ema_teacher is not None:
        model.start_ema_teacher()
    batch = make_batch()
    batch["texts"] = batch["texts"][:, : model.clip.context_length]
    losses = model(**batch, mode="loss")
    loss = sum(value for key, value in losses.items() if key.startswith("loss_"))
    loss.backward()
    assert torch.isfinite(loss)
    assert any(p.grad is not None and p.grad.any() for p in model.clip.clip.visual.parameters())


@pytest.mark.parametrize("name", ["ViT-Ti-16", "EVA02-Ti-16"])
def test_sigmoid_losses_need_a_bias(name):
    with pytest.raises(ValueError, match=r"SigmoidGlobalContrastive: .* init_logit_bias=-10"):
        FineCLIPPretrainer(DenseCLIP.create(name), [SigmoidGlobalContrastive()])
    model = make_model("SigmoidGlobalContrastive", name)
    assert model.clip.logit_bias.item() == -10
    assert model.clip.logit_scale.item() == pytest.approx(math.log(10))
    model(**make_batch(), mode="loss")["loss_global"].backward()
    assert model.clip.logit_bias.grad != 0
    frozen = make_model("SigmoidGlobalContrastive", name, trainable=("image",))
    assert not frozen.clip.logit_bias.requires_grad


def test_two_objectives_with_one_loss_name_are_refused():
    clip = DenseCLIP.create("ViT-Ti-16", **SIGMOID)
    model = FineCLIPPretrainer(clip, [GlobalContrastive(), SigmoidGlobalContrastive()])
    message = "GlobalContrastive and SigmoidGlobalContrastive both name a loss loss_global"
    with pytest.raises(ValueError, match=message):
        model(**make_batch(), mode="loss")


def test_missing_fields_are_named():
    model = make_model("SelfDistillation")
    batch = make_batch()
    del batch["crops"], batch["boxes"]
    with pytest.raises(ValueError, match=r"\(SelfDistillation\) need boxes, crops, which"):
        model(**batch, mode="loss")


def test_checkpoints_with_an_ema_teacher_load_as_clip(tmp_path):
    """What is added to the model must not be taken for part of the CLIP."""
    model = make_model("LocalToGlobalDistillation")
    torch.save({"meta": {}, "state_dict": model.state_dict()}, tmp_path / "epoch_1.pth")
    assert load(tmp_path / "epoch_1.pth").keys() == model.clip.clip.state_dict().keys()


@pytest.mark.parametrize("name", ["ViT-Ti-16", "EVA02-Ti-16", "RN-Ti"])
def test_unlocked_groups_train_the_last_blocks_alone(name):
    model = make_model("CLIPSelfDistillation", name, trainable=("image",), unlocked_groups=1)
    last = {id(p) for p in model.clip.trunk.stages[-1].parameters()}
    trains = {id(p) for p in model.parameters() if p.requires_grad}
    assert trains
    assert trains <= last
    whole = make_model("CLIPSelfDistillation", name, trainable=("image",))
    count = len(whole.clip.trunk.stages)
    blocks = make_model("CLIPSelfDistillation", name, trainable=("image",), unlocked_groups=count)
    training = [[p for p in m.parameters() if p.requires_grad] for m in (blocks, whole)]
    assert len(trains) < len(training[0]) < len(training[1])
    with pytest.raises(ValueError, match=f"unlocked_groups must be from 1 to {count}"):
        make_model("CLIPSelfDistillation", name, unlocked_groups=count + 1)
