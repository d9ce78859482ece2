"""Every config of pretraining: its objectives get what they need from its data."""

import inspect
from functools import cache
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
CLIPSELF = {path.stem: path for path in sorted((CONFIGS.parent / "clipself").glob("*.py"))}
NAMES = {
    "coco_vit-b-16",
    "coco_eva02-b-16",
    "coco_eva02-b-16_lean",
    "coco_eva02-l-14-336",
    "cc2.5m_vit-b-16",
    "cc2.5m_eva02-b-16",
    "cc2.5m_eva02-l-14-336",
    "scenes",
    "own",
}
# Patches have no captions of regions: methods that need none.
ON_PATCHES = tuple(m for m in ROWS if m not in ("fineclip", "rc", "siglip-fineclip"))
# Every method where one file's settings are, and of files that differ in variables alone a few.
TRAINED = [
    *(("coco_vit-b-16", method) for method in ROWS),
    *(("scenes", method) for method in ("clip", "siglip-fineclip", "silc")),
    ("cc2.5m_vit-b-16", "fineclip"),
    ("coco_eva02-b-16_lean", "fineclip"),
    *(("coco-patches_eva02-b-16", method) for method in ("clipself", "gc-sd", "filip")),
    ("coco-regionclip_eva02-b-16", "regionclip"),
]
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


@cache
def config_of(name, method):
    """A config as it is shipped, to be looked at alone."""
    return load_config({**FILES, **CLIPSELF}[name], {"method": method})


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "scenes"
    make_scenes(folder, images=4, val_images=1, size=64)
    return folder


def test_one_file_per_data_set_and_tower():
    assert set(FILES) == NAMES
    # What F-ViT's tables name as CLIPSelf's own recipe, and its baseline.
    data = ("coco-patches", "coco-proposals", "coco-regionclip", "lvis-patches")
    assert set(CLIPSELF) == {f"{d}_{t}" for d in data for t in ("eva02-b-16", "eva02-l-14-336")}
    assert max(len(FILES), len(CLIPSELF)) <= 11  # what one can take in at a glance


def test_methods_are_the_rows_of_the_tables():
    with pytest.raises(
        ValueError, match="unknown method 'clipp'; known: fineclip, clip, "
    ) as error:
        load_config(FILES["scenes"], {"method": "clipp"})
    assert set(str(error.value).split("known: ")[1].split(", ")) == set(ROWS)


@pytest.mark.parametrize(("name", "method"), TRAINED)
def test_row_trains_on_what_its_data_hold(name, method, scenes):
    """Scenes stand in for COCO; everything else is the config's."""
    tiny = {**TINY, "unlocked_groups": 1} if name in CLIPSELF else TINY
    if name.endswith("_lean"):  # here, crops keep their aspect ratio as well
        tiny = {**tiny, "crop_patch": 16}
    config = load_config({**FILES, **CLIPSELF}[name], {"method": method, **tiny})
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


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *((name, method) for name in ("coco_eva02-b-16", "scenes") for method in ROWS),
        *((name, "fineclip") for name in FILES),
        *(("coco-patches_eva02-b-16", method) for method in ON_PATCHES),
        *((name, "clipself") for name in CLIPSELF),
    ],
)
def test_every_name_in_a_config_exists(name, method):
    config = config_of(name, method)
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


@pytest.mark.parametrize(
    ("name", "method", "size"),
    [
        ("cc2.5m_vit-b-16", "fineclip", 640),
        *(("coco_vit-b-16", method, 336) for method in ROWS),
    ],
)
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
    for name in ("coco_eva02-b-16", "scenes"):
        base = config_of(name, "fineclip")
        for row in ROWS:
            assert all(config_of(name, row)[key] == base[key] for key in shared), row


def test_sigmoid_rows_do_not_start_from_published_logits():
    """open_clip fills a missing bias with 0, whatever init_logit_bias says."""
    for name in ("coco_eva02-b-16", "scenes"):
        for method in ("siglip-fineclip", "siglip-silc"):
            config = config_of(name, method)
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


def test_clipself_recipe_is_the_released_one():
    config = load_config(CLIPSELF["coco-patches_eva02-b-16"])
    dataset = config.train_dataloader.dataset
    assert dataset.regions == {"type": "GridRegions", "max_regions": 20}
    images = dataset.images
    assert (images.transform.size, images.crop_transform.size) == (1024, 224)
    assert (images.transform.resize, images.crop_transform.resize) == ("pad", "pad_center")
    for task in config.val_dataloader.values():
        assert task.dataset.transform == images.transform
    assert (config.train_cfg.max_epochs, config.optim_wrapper.optimizer.lr) == (6, 1e-5)
    assert config.model.unlocked_groups == 12
    assert config.custom_hooks[-1] == {"type": "MixedWeightsHook", "alpha": 0.7}
    large = load_config(CLIPSELF["coco-proposals_eva02-l-14-336"])
    assert large.train_dataloader.dataset.regions.type == "BoxRegions"
    assert (large.model.unlocked_groups, large.custom_hooks[-1].alpha) == (24, 0.95)
    lvis = load_config(CLIPSELF["lvis-patches_eva02-b-16"]).train_dataloader.dataset.source
    assert lvis.annotations == "data/coco/annotations/lvis_v1_train.json"
    assert Path(lvis.image_root) == Path("data/coco")


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
