"""The wrapper for detectron2: keys, registries, contract, optimiser."""

import json

import pytest
import torch
from catseg_reference import settings

pytest.importorskip("detectron2")

from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY, build_model

from segmentation import CATSeg, CATSegHead, add_cat_seg_config, build_optimizer


def value_of(cfg, key):
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def config(tmp_path, **head):
    cfg = get_cfg()
    add_cat_seg_config(cfg)
    resolved = settings("catseg_config_keys")["resolved"]["vitb_384"]
    cfg.merge_from_list([x for k, v in resolved.items() if v is not None for x in (k, v)])
    cfg.MODEL.DEVICE = "cpu"
    names = tmp_path / "names.json"
    names.write_text(json.dumps(["cat", {"name": "n02", "prompt": "dog"}, "grass, lawn"]))
    small = {
        "TRAIN_CLASS_JSON": str(names),
        "TEST_CLASS_JSON": "voc20",
        "CLIP_PRETRAINED": "ViT-Ti-16",
        "TEXT_GUIDANCE_DIM": 64,
        "APPEARANCE_GUIDANCE_DIM": 64,
        "FEATURE_RESOLUTION": [4, 5],
        "HIDDEN_DIMS": 32,
        "DECODER_DIMS": [32, 16],
        "DECODER_GUIDANCE_PROJ_DIMS": [16, 8],
        "WINDOW_SIZES": 3,
        **head,
    }
    for key, value in small.items():
        cfg.MODEL.SEM_SEG_HEAD[key] = value
    return cfg


def inputs(sizes=((40, 70), (64, 64)), classes=3):
    return [
        {
            "image": torch.randint(0, 256, (3, *size), dtype=torch.uint8),
            "sem_seg": torch.randint(0, classes, size),
        }
        for size in sizes
    ]


def test_keys_and_defaults_are_the_reference_s():
    cfg = get_cfg()
    add_cat_seg_config(cfg)
    recorded = settings("catseg_config_keys")
    for key, value in recorded["added"].items():
        assert value_of(cfg, key) == value, key
    for resolved in recorded["resolved"].values():
        fresh = get_cfg()
        add_cat_seg_config(fresh)
        fresh.merge_from_list([x for k, v in resolved.items() if v is not None for x in (k, v)])
        for key, value in resolved.items():
            found = value_of(fresh, key)
            assert (list(found) if isinstance(found, tuple) else found) == value, key
    assert cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA == 1.0


def test_registered():
    assert META_ARCH_REGISTRY.get("CATSeg") is CATSeg
    assert SEM_SEG_HEADS_REGISTRY.get("CATSegHead") is CATSegHead


def test_training_and_inference(tmp_path):
    model = build_model(config(tmp_path))
    assert isinstance(model, CATSeg)
    assert model.sem_seg_head.train_classes == ("cat", "dog", "grass, lawn")
    assert model.clip_resolution == (64, 80)
    batch = inputs()
    losses = model(batch)
    assert list(losses) == ["loss_sem_seg"]
    losses["loss_sem_seg"].backward()
    model.eval()
    batch[0] |= {"height": 30, "width": 20}
    results = model(batch)
    assert [r["sem_seg"].shape for r in results] == [(20, 30, 20), (20, 64, 64)]
    (alone,) = model(batch[1:])
    torch.testing.assert_close(results[1]["sem_seg"], alone["sem_seg"], atol=1e-5, rtol=0)


def test_sliding_windows_by_configuration(tmp_path):
    cfg = config(tmp_path)
    cfg.TEST.SLIDING_WINDOW = True
    cfg.TEST.SLIDING_WINDOW_CANVAS = [96, 80]
    cfg.TEST.SLIDING_WINDOW_SIZE = 64
    model = build_model(cfg).eval()
    (result,) = model(inputs()[:1])
    assert result["sem_seg"].shape == (20, 96, 80)


def test_optimizer(tmp_path):
    cfg = config(tmp_path)
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["fused"]
    rates = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert id(parameter) not in rates
            continue
        rate, decay = rates[id(parameter)]
        assert rate == pytest.approx(2e-6 if "clip_model." in name else 2e-4), name
        assert decay in (0.0, 1e-4)
    (sum(model(inputs()).values()) * 1000).backward()
    optimizer.step()
    trained = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert torch.stack(trained).norm().item() == pytest.approx(0.01, rel=1e-3)
    cfg.SOLVER.OPTIMIZER = "LION"
    with pytest.raises(ValueError, match="known: ADAMW, SGD"):
        build_optimizer(cfg, model)


def test_built_without_a_configuration(tmp_path):
    head = build_model(config(tmp_path)).sem_seg_head
    model = CATSeg(head, clip_resolution=(48, 48))
    assert model.eval()(inputs()[:1])[0]["sem_seg"].shape == (20, 40, 70)


def test_refined_weights_by_path(tmp_path):
    torch.manual_seed(7)
    from fineclip.models import DenseCLIP

    clip = DenseCLIP.create("ViT-Ti-16")
    torch.save(clip.clip.state_dict(), tmp_path / "clip.pt")
    model = build_model(config(tmp_path, CLIP_WEIGHTS=str(tmp_path / "clip.pt")))
    found = model.sem_seg_head.predictor.clip_model.visual.proj
    assert torch.equal(found, clip.clip.visual.proj)


@pytest.mark.parametrize(
    ("head", "error", "message"),
    [
        ({"TEXT_GUIDANCE_DIM": 512}, ValueError, "TEXT_GUIDANCE_DIM is 512.*64 dimensions"),
        ({"CLIP_FINETUNE": "atention"}, ValueError, "CLIP_FINETUNE is 'atention'"),
        ({"TEST_CLASS_JSON": "datasets/no.json"}, FileNotFoundError, "no.json"),
        ({"CLIP_WEIGHTS": "no/such.pt"}, FileNotFoundError, "no/such.pt"),
    ],
)
def test_bad_settings(tmp_path, head, error, message):
    with pytest.raises(error, match=message):
        build_model(config(tmp_path, **head))


def test_frozen_by_the_reference_s_word(tmp_path):
    model = build_model(config(tmp_path, CLIP_FINETUNE="none"))
    assert not any(p.requires_grad for p in model.sem_seg_head.predictor.clip_model.parameters())
