"""The yaml files of segmentation: complete, consistent, and what the recipes say."""

from pathlib import Path

import open_clip
import pytest

pytest.importorskip("detectron2")

from fineclip.text import load_vocabulary
from segmentation import build_optimizer
from segmentation.data import check_class_lists, dataset_names
from segmentation.engine import load_config
from segmentation.engine.trainer import SegmentationTrainer
from segmentation.modeling.build import OPENAI_NAMES

FOLDER = Path(__file__).parents[2] / "configs" / "segmentation"
MODELS = {
    "vit-b-16": ("ViT-B/16", 16, 384),
    "vit-l-14-336": ("ViT-L/14@336px", 14, 336),
    "eva02-b-16": ("EVA02-B-16", 16, 384),
    "eva02-l-14-336": ("EVA02-L-14-336", 14, 336),
}
GRID = [f"coco-stuff_{model}" for model in MODELS]


def test_the_grid_is_complete():
    others = ["own", "scenes_vit-ti-8"]
    assert sorted(f.stem for f in FOLDER.glob("*.yaml")) == sorted([*GRID, *others])


@pytest.mark.parametrize("name", GRID)
def test_grid(name):
    cfg = load_config(FOLDER / f"{name}.yaml")
    _, model = name.split("_")
    clip, patch, pixels = MODELS[model]
    head = cfg.MODEL.SEM_SEG_HEAD
    assert clip == head.CLIP_PRETRAINED
    known = open_clip.get_model_config(OPENAI_NAMES.get(clip, clip))
    assert known["embed_dim"] == head.TEXT_GUIDANCE_DIM == head.APPEARANCE_GUIDANCE_DIM
    assert [side * patch for side in head.FEATURE_RESOLUTION] == [pixels, pixels]
    tags = open_clip.list_pretrained_tags_by_model(OPENAI_NAMES.get(clip, clip))
    assert head.CLIP_WEIGHTS in tags
    assert f"work_dirs/{name}" == cfg.OUTPUT_DIR
    check_class_lists(cfg, ["TRAIN"])
    assert len(load_vocabulary(head.TRAIN_CLASS_JSON)) == head.NUM_CLASSES == 171
    assert len(cfg.DATASETS.TEST) == 5 and set(cfg.DATASETS.TEST) <= set(dataset_names())
    solver = cfg.SOLVER
    assert (solver.MAX_ITER, solver.IMS_PER_BATCH, solver.BASE_LR) == (80000, 4, 2e-4)
    assert (solver.CLIP_MULTIPLIER, solver.WEIGHT_DECAY, solver.WARMUP_ITERS) == (0.01, 1e-4, 0)
    assert (solver.CLIP_GRADIENTS.CLIP_TYPE, solver.CLIP_GRADIENTS.CLIP_VALUE) == (
        "full_model",
        0.01,
    )
    assert not solver.AMP.ENABLED
    assert cfg.TEST.SLIDING_WINDOW and list(cfg.TEST.POOLING_SIZES) == [1, 1]
    assert list(head.POOLING_SIZES) == [2, 2] and head.NUM_LAYERS == 2
    assert head.CLIP_RESIDUAL == "auto"  # the weights may be named on the command line


def test_scenes():
    cfg = load_config(FOLDER / "scenes_vit-ti-8.yaml", ["MODEL.SEM_SEG_HEAD.CLIP_WEIGHTS", "none"])
    check_class_lists(cfg, ["TRAIN"])
    model = SegmentationTrainer.build_model(cfg)
    assert model.sem_seg_head.train_classes == load_vocabulary("scenes_base").names
    assert model.clip_resolution == (128, 128)
    assert model.sem_seg_head.predictor.residual == "own"  # from FineCLIP
    optimizer = build_optimizer(cfg, model)
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in model.sem_seg_head.predictor.clip_model.parameters()}
