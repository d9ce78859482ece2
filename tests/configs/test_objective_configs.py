"""Every config of pretraining: its objectives get what they need from its data."""

import inspect
from pathlib import Path

import pytest

from fineclip.datasets import ImageReader, RegionTextDataset, collate_region_text
from fineclip.engine import load_config
from fineclip.registry import DATA_PARTS, DATASETS, HOOKS, MODELS
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
    "regionclip-concepts": ["GlobalContrastive", "RegionConceptMatching"],
    "filip": ["FILIP"],
    "sparc": ["SPARC"],
    "pacl": ["PACL"],
    "gloria": ["GLoRIA"],
    "mgca": ["MGCA"],
    "silc": ["ViewContrastive", "LocalToGlobalDistillation"],
    "siglip-silc": ["SigmoidViewContrastive", "LocalToGlobalDistillation"],
    "siglip-fineclip": ["SigmoidGlobalContrastive", "SigmoidRegionContrastive", "SelfDistillation"],
}
LOSSES = {
    "GlobalContrastive": {"loss_global"},
    "RegionContrastive": {"loss_region"},
    "SelfDistillation": {"loss_distill"},
    "CLIPSelfDistillation": {"loss_clipself"},
    "RegionCLIPLoss": {"loss_regionclip"},
    "RegionConceptMatching": {"loss_concept_distill", "loss_concept_contrast"},
    "LocalToGlobalDistillation": {"loss_local_to_global"},
    "ViewContrastive": {"loss_global"},
    "SigmoidViewContrastive": {"loss_global"},
    "SigmoidGlobalContrastive": {"loss_global"},
    "SigmoidRegionContrastive": {"loss_region"},
    "FILIP": {"loss_filip"},
    "SPARC": {"loss_sparc_global", "loss_sparc_local"},
    "PACL": {"loss_pacl"},
    "GLoRIA": {"loss_gloria_global", "loss_gloria_local"},
    "MGCA": {"loss_mgca_instance", "loss_mgca_token", "loss_mgca_prototype"},
}
# What the row's data need beyond an image: no caption is tokenized, no crop cut for nothing.
FIELDS = {
    "GlobalContrastive": {"texts"},
    "RegionContrastive": {"boxes", "region_texts"},
    "SelfDistillation": {"boxes", "crops"},
    "CLIPSelfDistillation": {"boxes", "crops"},
    "RegionCLIPLoss": {"boxes", "crops"},
    "RegionConceptMatching": {"boxes", "crops"},
    "LocalToGlobalDistillation": set(),
    **{
        name: {"texts"}
        for name in (
            *("FILIP", "SPARC", "PACL", "GLoRIA", "MGCA"),
            *("ViewContrastive", "SigmoidViewContrastive"),
        )
    },
    "SigmoidGlobalContrastive": {"texts"},
    "SigmoidRegionContrastive": {"boxes", "region_texts"},
}
FILES = {path.stem: path for path in sorted(CONFIGS.glob("*.py"))}
NAMES = {
    "coco_vit-b-16",
    "coco_eva02-b-16",
    "coco_eva02-l-14-336",
    "coco-patches_eva02-b-16",
    "cc2.5m_vit-b-16",
    "cc2.5m_eva02-b-16",
    "scenes",
}
# Patches have no captions: the methods that need none of regions.
ON_PATCHES = tuple(m for m in ROWS if m not in ("fineclip", "rc", "siglip-fineclip"))
PAIRS = [(n, m) for n in FILES for m in (ON_PATCHES if "patches" in n else ROWS)]
PATCHES = [("coco-patches_eva02-b-16", method) for method in ("clipself", "gc-sd")]
# A tiny model; where there is a choice, few names and few prototypes.
TINY = {
    "model_name": "ViT-Ti-16",
    "pretrained": None,
    "image_size": 32,
    "crop_size": 32,
    "vocabulary": ["red ring", "wall"],
    "templates": "plain",
    "num_prototypes": 8,
    "prototype_hidden": 16,
    "local_size": 16,
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "scenes"
    make_scenes(folder, images=4, val_images=1, size=64)
    return folder


def test_one_file_per_data_set_and_tower():
    assert set(FILES) == NAMES


def test_methods_are_the_rows_of_the_tables():
    with pytest.raises(
        ValueError, match="unknown method 'clipp'; known: fineclip, clip, "
    ) as error:
        load_config(FILES["scenes"], {"method": "clipp"})
    assert set(str(error.value).split("known: ")[1].split(", ")) == set(ROWS)


@pytest.mark.parametrize(("name", "method"), [p for p in PAIRS if "eva02" not in p[0]] + PATCHES)
def test_row_trains_on_what_its_data_hold(name, method, scenes):
    """Scenes stand in for COCO; everything else is the config's."""
    config = load_config(FILES[name], {"method": method, **TINY})
    types = [objective.type for objective in config.model.objectives]
    assert types == ROWS[method]
    dataset = config.train_dataloader.dataset
    assert set(dataset.get("fields", ("texts", "boxes", "crops", "region_texts"))) == set().union(
        *(FIELDS[name] for name in types)
    )
    notes = scenes / "annotations"
    dataset.source.update(
        image_root=str(scenes / "train"),
        annotations=str(notes / "proposals_train.json"),
        captions=str(notes / "captions_train.json"),
        region_captions=str(notes / "region_captions_train.json"),
    )
    batch = collate_region_text([DATASETS.build(dataset)[0, index] for index in range(3)])
    model = MODELS.build(config.model).train()
    hooks = {hook.type for hook in config.custom_hooks}
    if model.ema_teacher is not None:
        assert "EMATeacherHook" in hooks
        model.start_ema_teacher()
    losses = model(**model.data_preprocessor(batch), mode="loss")
    names = {key for key in losses if key.startswith("loss")}
    assert names == set().union(*(LOSSES[objective] for objective in types))
    model.parse_losses(losses)[0].backward()
    gradients = [p.grad for p in model.clip.clip.visual.parameters() if p.grad is not None]
    assert sum(gradient.abs().sum() for gradient in gradients) > 0


@pytest.mark.parametrize(("name", "method"), PAIRS)
def test_every_name_in_a_config_exists(name, method):
    config = load_config(FILES[name], {"method": method})
    dataset = config.train_dataloader.dataset
    parts = {RegionTextDataset: dataset, ImageReader: dataset.images}
    parts |= {DATA_PARTS.get(part.type): part for part in (dataset.source, dataset.regions)}
    for part, arguments in parts.items():
        assert set(arguments) - {"type"} <= inspect.signature(part).parameters.keys()
    for hook in config.custom_hooks:
        assert HOOKS.get(hook.type), hook.type
    model = MODELS.get(config.model.type)
    assert set(config.model) - {"type"} <= inspect.signature(model).parameters.keys()
    # A dropped base hook would go unnoticed: lists are replaced, not merged.
    kept = {"ClampLogitScaleHook", "SkippedSamplesHook"}
    assert kept <= {hook.type for hook in config.custom_hooks}


@pytest.mark.parametrize(("name", "method"), [pair for pair in PAIRS if "vit-b-16" in pair[0]])
@pytest.mark.parametrize("size", [336, 640])
def test_one_option_changes_the_image_size_of_every_row(name, method, size):
    options = {"method": method, "image_size": size, "num_images": 1000}
    config = load_config(FILES[name], options)
    dataset = config.train_dataloader.dataset
    sizes = {task.dataset.transform.size for task in config.test_dataloader.values()}
    assert sizes | {dataset.images.transform.size} == {size}
    assert dataset.images.crop_transform.size == 224
    assert dataset.num_images == 1000
    if "views" in dataset:
        assert dataset.views.global_size == size


def test_rows_differ_from_fineclip_in_objectives_and_data_only():
    """The table compares objectives: schedule, batch and optimizer are the same."""
    shared = ("optim_wrapper", "param_scheduler", "train_cfg", "batch_size", "val_evaluator")
    for path in FILES.values():
        base = load_config(path)
        for row in ROWS:
            config = load_config(path, {"method": row})
            assert all(config[key] == base[key] for key in shared), row


def test_sigmoid_rows_do_not_start_from_published_logits():
    """open_clip fills a missing bias with 0, whatever init_logit_bias says."""
    for name, path in FILES.items():
        for method in ("siglip-fineclip", "siglip-silc"):
            config = load_config(path, {"method": method})
            restarts = "InitialLogitsHook" in {hook.type for hook in config.custom_hooks}
            assert restarts == (name != "scenes")  # whose weights are ours


@pytest.mark.parametrize(
    ("method", "objective"),
    [("silc", "GlobalContrastive"), ("siglip-silc", "SigmoidGlobalContrastive")],
)
def test_silc_follows_its_paper_and_takes_the_plain_image_on_request(method, objective):
    config = load_config(FILES["coco_eva02-b-16"], {"method": method, "contrast": "image"})
    assert config.model.objectives[0].type == objective
    hooks = {hook.type: hook for hook in config.custom_hooks}
    assert hooks["EMATeacherHook"] == {"type": "EMATeacherHook", "momentum": 0.996}
    assert hooks["FrozenPrototypesHook"].epochs == 1


def test_clipself_recipe_uses_patches_at_its_own_resolution():
    config = load_config(FILES["coco-patches_eva02-b-16"])
    dataset = config.train_dataloader.dataset
    assert dataset.regions == {"type": "GridRegions", "max_regions": 20}
    images = dataset.images
    assert (images.transform.size, images.crop_transform.size) == (1024, 224)
    assert (images.transform.resize, images.crop_transform.resize) == ("pad", "pad_center")
    assert (config.train_cfg.max_epochs, config.optim_wrapper.optimizer.lr) == (6, 1e-5)
    boxes = load_config(FILES["coco-patches_eva02-b-16"], {"regions": "boxes"})
    assert boxes.train_dataloader.dataset.regions.type == "BoxRegions"


@pytest.mark.parametrize(
    ("name", "options", "betas", "eps"),
    [
        ("coco_eva02-b-16", {}, (0.9, 0.999), 1e-8),
        ("coco_vit-b-16", {}, (0.9, 0.98), 1e-6),
        ("coco_eva02-b-16", {"model_name": "ViT-B-16-quickgelu"}, (0.9, 0.98), 1e-6),
        ("coco_vit-b-16", {"betas": (0.8, 0.9)}, (0.8, 0.9), 1e-6),
    ],
)
def test_the_optimizer_follows_the_name_of_the_model(name, options, betas, eps):
    optimizer = load_config(FILES[name], options).optim_wrapper.optimizer
    assert (tuple(optimizer.betas), optimizer.eps) == (betas, eps)


def test_vocabulary_option_reaches_the_model():
    options = {"method": "regionclip"}
    assert load_config(FILES["coco_vit-b-16"], options).model.vocabulary == "lvis_v1"
    config = load_config(FILES["coco_vit-b-16"], {**options, "vocabulary": "nouns.json"})
    assert config.model.vocabulary == "nouns.json"
    config = load_config(FILES["scenes"], {**options, "data_root": "D"})
    assert config.model.vocabulary == "D/vocabulary.json"
    assert "vocabulary" not in load_config(FILES["scenes"]).model
