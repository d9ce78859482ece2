"""A tiny configuration on tiny scenes."""

import pytest

pytest.importorskip("detectron2")

from pathlib import Path

from fineclip.scenes import make_scenes
from segmentation.data import register_datasets
from segmentation.engine import load_config

CONFIG = Path(__file__).parents[3] / "configs" / "segmentation" / "scenes_vit-ti-8.yaml"


@pytest.fixture(scope="session")
def scenes_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    make_scenes(root / "scenes", images=8, val_images=2, size=32)
    return root


@pytest.fixture
def registered(scenes_root):
    register_datasets(scenes_root)
    yield scenes_root
    register_datasets()


@pytest.fixture
def make_config(registered, tmp_path):
    def make(*options, out="out"):
        return load_config(
            CONFIG,
            [
                *("OUTPUT_DIR", str(tmp_path / out)),
                *("MODEL.SEM_SEG_HEAD.CLIP_WEIGHTS", "none"),
                *("MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION", "[4, 4]"),
                *("INPUT.MIN_SIZE_TRAIN", "(32,)", "INPUT.MIN_SIZE_TEST", "32"),
                *("INPUT.SIZE_DIVISIBILITY", "32", "SOLVER.IMS_PER_BATCH", "2"),
                *("SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2"),
                *("SOLVER.AMP.ENABLED", "False", "TEST.AMP", "False"),
                *("DATASETS.TEST", "()"),
                *options,
            ],
        )

    return make
