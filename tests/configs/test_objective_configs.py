"""Every config of pretraining: its objectives get what they need from its data."""

import inspect
from pathlib import Path

import pytest

from fineclip.datasets import RegionTextDataset, collate_region_text
from fineclip.engine import load_config
from fineclip.registry import DATASETS, HOOKS, MODELS
from fineclip.scenes import make_scenes

CONFIGS = Path(__file__).parents[2] / "configs" / "fineclip"
ROWS = {
    "clip": ["GlobalContrastive"],
    "regionclip": ["RegionCLIPLoss"],
    "clipself": ["CLIPSelfDistillation"],
    "sd": ["SelfDistillation"],
    "gc-sd": ["GlobalContrastive", "SelfDistillation"],
    "rc": ["RegionContrastive"],
    "fineclip": ["GlobalContrastive", "RegionContrastive", "SelfDistillation"],
    "silc": ["GlobalContrastive", "LocalToGlobalDistillation"],
    "siglip-fineclip": ["SigmoidGlobalContrastive", "SigmoidRegionContrastive", "SelfDistillation"],
}
LOSSES = {
    "GlobalContrastive": "loss_global",
    "RegionContrastive": "loss_region",
    "SelfDistillation": "loss_distill",
    "CLIPSelfDistillation": "loss_clipself",
    "RegionCLIPLoss": "loss_regionclip",
    "LocalToGlobalDistillation": "loss_local_to_global",
    "SigmoidGlobalContrastive": "loss_global",
    "SigmoidRegionContrastive": "loss_region",
}
# What the row's data need beyond an image: no caption is tokenized, no crop cut for nothing.
FIELDS = {
    "GlobalContrastive": {"texts"},
    "RegionContrastive": {"boxes", "region_texts"},
    "SelfDistillation": {"boxes", "crops"},
    "CLIPSelfDistillation": {"boxes", "crops"},
    "RegionCLIPLoss": {"boxes", "crops"},
    "LocalToGlobalDistillation": set(),
    "SigmoidGlobalContrastive": {"texts"},
    "SigmoidRegionContrastive": {"boxes", "region_texts"},
}
PREFIXES = {"coco": "coco_vit-b-16_", "cc2.5m": "cc2.5m_vit-b-16_", "scenes": "scenes_"}
FILES = [prefix + row for prefix in PREFIXES.values() for row in ROWS]
TINY = {"model_name": "ViT-Ti-16", "pretrained": None, "image_size": 32, "crop_size": 32}


def options(name):
    """A tiny model; where there is a choice, few names and few prototypes."""
    found = dict(TINY)
    if name.endswith("_regionclip"):
        found |= {"vocabulary": ["red ring", "wall"], "model.templates": "plain"}
    if name.endswith("_silc"):
        found |= {"num_prototypes": 8, "model.prototype_head.hidden_dim": 16}
        found |= {"train_dataloader.dataset.views.local_size": 16}
    return found


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "scenes"
    make_scenes(folder, images=4, val_images=1, size=64)
    return folder


def test_every_row_has_a_config_for_every_data_set():
    files = {path.stem for path in CONFIGS.glob("*.py")}
    assert set(FILES) <= files
    others = {name for name in files - set(FILES) if "eva02" not in name}
    assert others == set()


@pytest.mark.parametrize("name", FILES)
def test_row_trains_on_what_its_data_hold(name, scenes):
    """Scenes stand in for COCO; everything else is the config's."""
    config = load_config(CONFIGS / f"{name}.py", options(name))
    row = name.split("_")[-1]
    types = [objective.type for objective in config.model.objectives]
    assert types == ROWS[row]
    dataset = config.train_dataloader.dataset
    assert set(dataset.get("fields", ("texts", "boxes", "crops", "region_texts"))) == set().union(
        *(FIELDS[name] for name in types)
    )
    notes = scenes / "annotations"
    dataset.update(image_root=str(scenes / "train"), captions=str(notes / "captions_train.json"))
    dataset.update(annotations=str(notes / "proposals_train.json"))
    dataset.update(region_captions=str(notes / "region_captions_train.json"))
    batch = collate_region_text([DATASETS.build(dataset)[0, index] for index in range(3)])
    model = MODELS.build(config.model).train()
    hooks = {hook.type for hook in config.custom_hooks}
    if model.ema_teacher is not None:
        assert "EMATeacherHook" in hooks
        model.start_ema_teacher()
    losses = model(**model.data_preprocessor(batch), mode="loss")
    names = {key for key in losses if key.startswith("loss")}
    assert names == {LOSSES[objective] for objective in types}
    model.parse_losses(losses)[0].backward()
    gradients = [p.grad for p in model.clip.clip.visual.parameters() if p.grad is not None]
    assert sum(gradient.abs().sum() for gradient in gradients) > 0


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda path: path.stem)
def test_every_name_in_a_config_exists(path):
    config = load_config(path)
    known = inspect.signature(RegionTextDataset).parameters
    dataset = config.train_dataloader.dataset
    assert set(dataset) - {"type"} <= known.keys()
    for hook in config.custom_hooks:
        assert HOOKS.get(hook.type), hook.type
    model = MODELS.get(config.model.type)
    assert set(config.model) - {"type"} <= inspect.signature(model).parameters.keys()
    # A dropped base hook would go unnoticed: lists are replaced, not merged.
    kept = {"ClampLogitScaleHook", "SkippedSamplesHook"}
    assert kept <= {hook.type for hook in config.custom_hooks}


@pytest.mark.parametrize("name", [n for n in FILES if not n.startswith("scenes")])
@pytest.mark.parametrize("size", [336, 640])
def test_one_option_changes_the_image_size_of_every_row(name, size):
    config = load_config(CONFIGS / f"{name}.py", {"image_size": size, "num_images": 1000})
    dataset = config.train_dataloader.dataset
    sizes = {task.dataset.transform.size for task in config.test_dataloader.values()}
    assert sizes | {dataset.transform.size} == {size}
    assert dataset.crop_transform.size == 224
    assert dataset.num_images == 1000
    if "views" in dataset:
        assert dataset.views.global_size == size


def test_rows_differ_from_fineclip_in_objectives_and_data_only():
    """The table compares objectives: schedule, batch and optimizer are the same."""
    shared = ("optim_wrapper", "param_scheduler", "train_cfg", "batch_size", "val_evaluator")
    for prefix in PREFIXES.values():
        base = load_config(CONFIGS / f"{prefix}fineclip.py")
        for row in ROWS:
            config = load_config(CONFIGS / f"{prefix}{row}.py")
            assert all(config[key] == base[key] for key in shared), row


def test_sigmoid_rows_do_not_start_from_published_logits():
    """open_clip fills a missing bias with 0, whatever init_logit_bias says."""
    for prefix in ("coco_vit-b-16_", "cc2.5m_vit-b-16_"):
        config = load_config(CONFIGS / f"{prefix}siglip-fineclip.py")
        assert "InitialLogitsHook" in {hook.type for hook in config.custom_hooks}


def test_clipself_recipe_uses_patches_at_its_own_resolution():
    config = load_config(CONFIGS / "coco_eva02-b-16_clipself.py")
    dataset = config.train_dataloader.dataset
    assert dataset.regions == "grid"
    assert (dataset.transform.size, dataset.crop_transform.size) == (1024, 224)
    assert (config.train_cfg.max_epochs, config.optim_wrapper.optimizer.lr) == (6, 1e-5)
    boxes = load_config(
        CONFIGS / "coco_eva02-b-16_clipself.py", {"train_dataloader.dataset.regions": "boxes"}
    )
    assert boxes.train_dataloader.dataset.regions == "boxes"


def test_vocabulary_option_reaches_the_model():
    config = load_config(CONFIGS / "coco_vit-b-16_regionclip.py")
    assert config.model.vocabulary == "lvis_v1"
    config = load_config(CONFIGS / "coco_vit-b-16_regionclip.py", {"vocabulary": "nouns.json"})
    assert config.model.vocabulary == "nouns.json"
    config = load_config(CONFIGS / "scenes_regionclip.py", {"data_root": "D"})
    assert config.model.vocabulary == "D/vocabulary.json"
