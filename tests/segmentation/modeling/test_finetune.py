"""What is trained, at which rate and decay: the recorded sets."""

import open_clip
import pytest
import torch
from catseg_reference import VARIANTS, make_segmenter, settings

from fineclip.models import DenseCLIP
from segmentation.modeling import apply_finetune_mode, build_segmenter, parameter_groups

PREFIX = "sem_seg_head.predictor.clip_model."


def trained_in_clip(model):
    return {n for n, p in model.named_parameters() if p.requires_grad and "clip_model." in n}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("mode", ["attention", "full", "prompt", "frozen"])
def test_recorded_trainable_sets(variant, mode):
    recorded = settings(f"catseg_{variant}_runs")["requires_grad"]
    entry = recorded["none" if mode == "frozen" else mode]
    prompts = {key: entry[key] for key in ("prompt_depth", "prompt_length")}
    model = make_segmenter(variant, mode, **prompts)
    assert trained_in_clip(model) == set(entry["clip_trainable"])
    rest = [p.requires_grad for n, p in model.named_parameters() if "clip_model." not in n]
    assert all(rest)
    frozen = [n for n, p in model.named_parameters() if not p.requires_grad]
    assert len(frozen) == entry["clip_frozen_count"]


@pytest.mark.parametrize(
    ("name", "architecture"), [("vitb_384", "ViT-B-16"), ("vitl_336", "ViT-L-14-336")]
)
def test_recorded_rates_and_decays_of_the_full_size_models(name, architecture):
    recorded = settings(f"catseg_optimizer_{name}")
    with torch.device("meta"):  # hundreds of millions of parameters, of which only names count
        clip = open_clip.CLIP(**_sizes(architecture))
    clip.attn_mask = torch.full((77, 77), -torch.inf).triu(1)
    model = build_segmenter(DenseCLIP(clip), train_classes=["thing"])
    assert sum(p.numel() for p in model.parameters()) == recorded["n_total"]
    groups = parameter_groups(model, base_lr=recorded["base_lr"], weight_decay=1e-4)
    found = {n: (group["lr"], group["weight_decay"]) for group in groups for n in group["names"]}
    wanted = {
        n: (group["lr"], group["weight_decay"])
        for group in recorded["groups"]
        for n in group["names"]
    }
    assert found.keys() == wanted.keys()
    for key, (rate, decay) in wanted.items():
        assert found[key] == (pytest.approx(rate), decay), key
    trained = sum(p.numel() for group in groups for p in group["params"])
    assert trained == recorded["n_trained"]


def _sizes(architecture):
    config = open_clip.get_model_config(architecture)
    return {key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}


def test_eva_towers_train_the_same_weights():
    model = build_segmenter("EVA02-Ti-16", train_classes=["cat"], grid=(4, 4))
    towers = {"visual.trunk.blocks": (3, ".weight"), "text.transformer.resblocks": (2, "_weight")}
    wanted = {
        f"{PREFIX}{where}.{block}.attn.{part}_proj{end}"
        for where, (blocks, end) in towers.items()
        for block in range(blocks)
        for part in "qv"
    }
    assert trained_in_clip(model) == wanted
    apply_finetune_mode(model.sem_seg_head.predictor, "full")
    assert all(".blocks." in n or ".resblocks." in n for n in trained_in_clip(model))
    groups = parameter_groups(model, base_lr=1.0, weight_decay=0.1, weight_decay_norm=0.5)
    norms = {n for group in groups if group["weight_decay"] == 0.5 for n in group["names"]}
    assert f"{PREFIX}visual.trunk.blocks.0.norm1.weight" in norms


@pytest.mark.parametrize("name", ["ViT-Ti-16", "EVA02-Ti-16"])
@pytest.mark.parametrize("mode", ["attention", "full", "prompt", "frozen"])
def test_every_trained_parameter_gets_a_gradient(name, mode):
    torch.manual_seed(0)
    model = build_segmenter(
        name,
        train_classes=["cat", "dog"],
        grid=(3, 4),
        finetune=mode,
        prompt_depth=2,
        prompt_length=3,
    ).train()
    picture = torch.randint(0, 256, (3, 32, 64), dtype=torch.uint8)
    model.loss([picture], [torch.randint(0, 2, (32, 64))]).backward()
    state = {n: (p.requires_grad, p.grad is not None) for n, p in model.named_parameters()}
    assert [n for n, (trains, has) in state.items() if trains != has] == []


def test_what_cannot_be_trained():
    model = build_segmenter("ViT-Ti-16", train_classes=["cat"], grid=(4, 4))
    predictor = model.sem_seg_head.predictor
    with pytest.raises(ValueError, match="known: attention, full, prompt, frozen"):
        apply_finetune_mode(predictor, "lora")
    with pytest.raises(ValueError, match="needs prompt tokens"):
        apply_finetune_mode(predictor, "prompt")
    with pytest.raises(ValueError, match="reads the blocks of a transformer"):
        build_segmenter("RN-Ti", train_classes=["cat"])
